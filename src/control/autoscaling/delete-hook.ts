import { notFound } from "../../contracts/common/app-error.ts";
import { resolveDemandsOfHook } from "../../db/queries/autoscaling/demands.ts";
import { deleteHook as deleteHookRow } from "../../db/queries/autoscaling/hooks.ts";
import { lockServiceByName } from "../../db/queries/services/write-services.ts";
import type { ControlContext } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { demandEvents } from "./demand-events.ts";
import { enqueueAutoscale } from "./enqueue-autoscale.ts";

/**
 * Deletes a hook and its token. Its alerts count as over, as their ends cannot be delivered any more: what they hold is
 * released after the stabilisation time. Throws not-found, also for one that is deleted already.
 */
export async function deleteHook(
  ctx: ControlContext,
  tenantId: string,
  serviceName: string,
  hookId: string,
): Promise<void> {
  await unitOfWork(ctx, async (tx) => {
    const service = await lockServiceByName(tx, tenantId, serviceName);
    if (!service) throw notFound("hook");
    if (!(await deleteHookRow(tx, service.id, hookId))) throw notFound("hook");
    const resolved = await resolveDemandsOfHook(tx, hookId);
    tx.emit(
      {
        kind: "token-revoked",
        text: `a hook of ${serviceName} was deleted, with its token`,
        tenantId,
        serviceId: service.id,
        data: { hookId },
      },
      ...demandEvents("demand-resolved", resolved),
    );
    const [first] = resolved;
    if (first)
      enqueueAutoscale(tx, [{ serviceId: service.id, demandId: first.id, to: "resolved" }]);
  });
}
