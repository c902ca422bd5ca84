import { notFound } from "../../contracts/common/app-error.ts";
import { resolveHookDemands } from "../../db/queries/autoscaling/demands.ts";
import { deleteHook as deleteHookRow } from "../../db/queries/autoscaling/hooks.ts";
import { markAutoscaleDue } from "../../db/queries/autoscaling/states.ts";
import { lockServiceByName } from "../../db/queries/services/write-services.ts";
import type { ControlContext } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { demandEvents } from "./demand-events.ts";
import { enqueueAutoscale } from "./enqueue-autoscale.ts";

/**
 * Deletes a hook and its token. Its alerts resolve, because no later delivery can resolve them.
 * Berth releases their demands after the stabilization window. Throws not-found, even if the hook
 * was already deleted.
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
    const resolved = await resolveHookDemands(tx, hookId);
    tx.emit(
      {
        kind: "token-revoked",
        tenantId,
        serviceId: service.id,
        data: { cause: "hook", service: serviceName, hookId },
      },
      ...demandEvents("demand-resolved", resolved),
    );
    const [first] = resolved;
    if (!first) return;
    await markAutoscaleDue(tx, service.id);
    enqueueAutoscale(tx, [{ serviceId: service.id, demandId: first.id, to: "resolved" }]);
  });
}
