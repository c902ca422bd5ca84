import { notFound } from "../../contracts/common/app-error.ts";
import { resolveDemandsOfHook } from "../../db/queries/autoscaling/demands.ts";
import { insertEvents } from "../../db/queries/events/write-events.ts";
import { deleteHook as deleteHookRow } from "../../db/queries/autoscaling/hooks.ts";
import { lockServiceByName } from "../../db/queries/services/write-services.ts";
import { withTx } from "../../db/transaction.ts";
import type { ServiceContext } from "../runtime/context.ts";
import { demandEvents } from "./demand-events.ts";
import { carryOut } from "../replicas/reconcile-replicas.ts";
import { ringAutoscale } from "./enqueue-autoscale.ts";

/**
 * Deletes a hook and its token. Its alerts count as over, as their ends cannot be delivered any more: what they hold is
 * released after the stabilisation time. Throws not-found, also for one that is deleted already.
 */
export async function deleteHook(
  ctx: ServiceContext,
  tenantId: string,
  serviceName: string,
  hookId: string,
): Promise<void> {
  const aftermath = await withTx(ctx.db, async (tx) => {
    const service = await lockServiceByName(tx, tenantId, serviceName);
    if (!service) throw notFound("hook");
    if (!(await deleteHookRow(tx, service.id, hookId))) throw notFound("hook");
    const resolved = await resolveDemandsOfHook(tx, hookId);
    await insertEvents(tx, [
      {
        kind: "token-revoked",
        text: `a hook of ${serviceName} was deleted, with its token`,
        tenantId,
        serviceId: service.id,
        data: { hookId },
      },
      ...demandEvents("demand-resolved", resolved),
    ]);
    const [first] = resolved;
    return (
      first && ringAutoscale(tx, [{ serviceId: service.id, demandId: first.id, to: "resolved" }])
    );
  });
  if (aftermath) await carryOut(ctx, aftermath);
}
