import { findUnbalancedServices } from "../../control/placement/retry-pending.ts";
import { reconcileService } from "../../control/replicas/reconcile-replicas.ts";
import type { ControlContext } from "../../control/runtime/context.ts";

/**
 * Reconciles services whose number of sets is not the desired one. Every change reconciles in its own transaction or
 * leaves a job in the outbox; this audit finds what a fault has missed. One service's failure stops no other.
 */
export async function auditReplicas(ctx: ControlContext): Promise<void> {
  for (const serviceId of await findUnbalancedServices(ctx)) {
    try {
      const outcome = await reconcileService(ctx, serviceId);
      ctx.log.info({ serviceId, ...outcome }, "audit reconciled a service");
    } catch (error) {
      ctx.log.warn({ err: error, serviceId }, "service not reconciled");
    }
  }
}
