import { findUnbalancedServices } from "../../control/placement/retry-pending.ts";
import { reconcileService } from "../../control/replicas/reconcile-replicas.ts";
import type { ControlContext } from "../../control/runtime/context.ts";

/**
 * Reconciles services whose number of sets is not the desired one. Each change reconciles in its
 * own transaction, or writes a job to the outbox. This audit corrects the results of faults, and
 * adds sets that a quota prevented until hosts reported removed sets absent. A service that fails
 * does not stop the others. The audit ends before the next service once `signal` aborts.
 */
export async function auditReplicas(ctx: ControlContext, signal: AbortSignal): Promise<void> {
  for (const serviceId of await findUnbalancedServices(ctx)) {
    if (signal.aborted) return;
    try {
      const outcome = await reconcileService(ctx, serviceId);
      ctx.log.info({ serviceId, ...outcome }, "the audit reconciled a service");
    } catch (error) {
      ctx.log.warn({ err: error, serviceId }, "cannot reconcile the service");
    }
  }
}
