import { createReason } from "../../contracts/api/reason-texts.ts";
import { expireOperations } from "../../db/queries/operations/end-operations.ts";
import type { ServiceRow } from "../../db/queries/services/write-services.ts";
import type { UnitOfWork } from "../runtime/context.ts";

/** Bounds the locks and the time of one transaction. */
const SETS_PER_SERVICE_MAX = 200;

/**
 * Ends operations of a service that waited past their deadline. Their sets are not moved. The next
 * round ends those beyond the bound. Returns how many ended.
 */
export async function expireServiceOperations(
  tx: UnitOfWork,
  { id: serviceId, tenantId }: ServiceRow,
): Promise<number> {
  const reason = createReason("operation-expired", {}, "placement");
  const ended = { kind: "move", outcome: "expired", reason } as const;
  const setIds = await expireOperations(tx, serviceId, ended, SETS_PER_SERVICE_MAX);
  for (const setId of setIds) {
    tx.emit({ kind: "set-warning", data: { warning: reason.text }, tenantId, serviceId, setId });
    tx.signal(`set:${setId}`);
  }
  if (setIds.length > 0) tx.signal(`service:${serviceId}`);
  return setIds.length;
}
