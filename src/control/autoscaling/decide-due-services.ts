import {
  claimDueServices,
  postponeAutoscale,
  markOverlookedServicesDue,
} from "../../db/queries/autoscaling/states.ts";
import type { ControlContext } from "../runtime/context.ts";
import { autoscaleService } from "./autoscale-service.ts";

const SERVICES_PER_SWEEP_MAX = 50;
/** Another sweep repeats a claim whose process crashed after this time. */
const CLAIM_SECONDS = 30;
const RETRY_SECONDS_MAX = 60;

export interface DueOutcome {
  /** Services that the sweep decided. */
  decided: number;
  /** Services that the sweep scaled. */
  scaled: number;
  failed: number;
}

/**
 * The autoscale sweep: decides services that are due, without Redis. Any number of processes may
 * sweep at once, as each claims its own services. One failing service does not stop the others: the
 * sweep logs it and retries it with exponential backoff.
 *
 * A service is due in these cases:
 * - Its demands changed, and no job has decided it since (I1).
 * - Berth releases one of its demands.
 * - The next step of a scale-in or a scale-out may follow.
 * - The tenant's quota limited the last decision, and may have grown.
 *
 * Once `signal` aborts, the sweep ends before the next service. Claims of the rest expire.
 */
export async function decideDueServices(
  ctx: ControlContext,
  signal?: AbortSignal,
): Promise<DueOutcome> {
  const outcome: DueOutcome = { decided: 0, scaled: 0, failed: 0 };
  for (const due of await claimDueServices(ctx.db, SERVICES_PER_SWEEP_MAX, CLAIM_SECONDS)) {
    if (signal?.aborted) break;
    try {
      const decided = await autoscaleService(ctx, due.serviceId);
      outcome.decided++;
      if (decided?.acted) outcome.scaled++;
    } catch (error) {
      outcome.failed++;
      const { serviceId, attempts } = due;
      ctx.log.warn({ err: error, serviceId, attempts }, "service not decided");
      const retrySeconds = Math.min(2 ** attempts, RETRY_SECONDS_MAX);
      await postponeAutoscale(ctx.db, serviceId, retrySeconds);
    }
  }
  return outcome;
}

/** Makes services due that hold resolved demands which nothing would release. Returns how many. */
export function auditDueServices(ctx: Pick<ControlContext, "db">): Promise<number> {
  return markOverlookedServicesDue(ctx.db);
}
