import { renderReasonText } from "../../contracts/api/reason-texts.ts";
import { AppError, notFound } from "../../contracts/common/app-error.ts";
import type { BerthSet } from "../../contracts/api/sets.ts";
import { getSizedTemplate, lockServiceById } from "../../db/queries/services/write-services.ts";
import {
  findSet,
  lockHosts,
  markSetsDeleted,
  type SetRow,
} from "../../db/queries/sets/write-sets.ts";
import { reconcileServiceSets } from "../replicas/reconcile-replicas.ts";
import type { ControlContext, UnitOfWork } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { countReplaceable } from "../tenancy/quota.ts";
import { getSet } from "./get-set.ts";

/**
 * Removes one set. The number of replicas of its service does not change, so another set replaces
 * it. Throws not-found.
 */
export async function deleteSet(
  ctx: ControlContext,
  scope: string | null,
  setId: string,
): Promise<BerthSet> {
  // Read it first: the transaction deletes a pending set immediately.
  const before = await getSet(ctx, scope, setId);
  await unitOfWork(ctx, async (tx) => {
    const set = await findSet(tx, setId, scope);
    if (!set) throw notFound("set");
    if (set.desired !== "deleted") await removeSet(tx, set);
  });
  return { ...before, desired: "deleted" };
}

/** Marks the set for deletion and adds a replacement, under the lock of its service. */
async function removeSet(tx: UnitOfWork, set: SetRow): Promise<void> {
  const service = await lockServiceById(tx, set.serviceId);
  // Near the quota this locks the tenant, which comes before the hosts.
  if (service) await countReplaceable(tx, service.tenantId, await getSizedTemplate(tx, service), 1);
  const hostIds = set.hostId === null ? [] : [set.hostId];
  await lockHosts(tx, hostIds);
  const marked = await markSetsDeleted(tx, [set.id], hostIds);
  if (marked.length === 0)
    throw new AppError("state-conflict", { detail: "The set changed meanwhile; try again." });
  tx.emit({
    kind: "set-stopping",
    data: { cause: "deletion" },
    tenantId: set.tenantId,
    serviceId: set.serviceId,
    setId: set.id,
    hostId: set.hostId,
  });
  tx.signal(...hostIds.map((id) => `host:${id}` as const));
  tx.signal(`set:${set.id}`, `service:${set.serviceId}`);
  const outcome = service ? await reconcileServiceSets(tx, service) : undefined;
  if (!outcome?.held) return;
  const warning = renderReasonText("replacement-over-quota", {});
  const { tenantId, serviceId, id: setId } = set;
  tx.emit({ kind: "set-warning", data: { warning }, tenantId, serviceId, setId });
}
