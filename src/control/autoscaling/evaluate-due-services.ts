import {
  claimDueServices,
  type DueService,
  postponeAutoscale,
  markOverlookedServicesDue,
} from "../../db/queries/autoscaling/states.ts";
import type { ControlContext } from "../runtime/context.ts";
import { autoscaleService } from "./autoscale-service.ts";

const SERVICES_PER_SWEEP_MAX = 50;
/**
 * An evaluation that waits for a lock delays no other until this many wait. Jobs and other sweeps
 * use the same connections.
 */
const EVALUATIONS_AT_ONCE_MAX = 2;
/** After this time, another sweep retries the work of a crashed process. */
const CLAIM_SECONDS = 30;
const RETRY_SECONDS_MAX = 60;

export interface DueOutcome {
  evaluated: number;
  scaled: number;
  failed: number;
}

/**
 * Evaluates the autoscaling of the services that are due, without Redis: the `autoscaling` sweep.
 * Several processes may call it concurrently, because each claims its own services. A service that
 * fails does not stop the others: the sweep logs the error and retries with exponential backoff.
 *
 * A service is due in these cases:
 * - Its demands changed, and no job has evaluated it since (I1).
 * - Berth releases one of its demands.
 * - The next step of a scale-in or a scale-out may follow.
 * - The tenant's quota limited the last decision, and may have grown.
 *
 * Tenants take turns, so that the due services of one do not delay those of another. After an abort
 * of `signal` it evaluates no further service. Their claims expire.
 */
export async function evaluateDueServices(
  ctx: ControlContext,
  signal?: AbortSignal,
): Promise<DueOutcome> {
  const outcome: DueOutcome = { evaluated: 0, scaled: 0, failed: 0 };
  const claimed = await claimDueServices(ctx.db, SERVICES_PER_SWEEP_MAX, CLAIM_SECONDS);
  // Each evaluator takes the next service from the same iterator.
  const services = claimed.values();
  const evaluateNext = async (): Promise<void> => {
    for (const service of services) {
      if (signal?.aborted) return;
      await evaluateDueService(ctx, service, outcome);
    }
  };
  await Promise.all(Array.from({ length: EVALUATIONS_AT_ONCE_MAX }, evaluateNext));
  return outcome;
}

/** Evaluates one service. Never throws, so a run ends only after all of its evaluators. */
async function evaluateDueService(
  ctx: ControlContext,
  { serviceId, attempts }: DueService,
  outcome: DueOutcome,
): Promise<void> {
  try {
    const evaluated = await autoscaleService(ctx, serviceId);
    outcome.evaluated++;
    if (evaluated?.acted) outcome.scaled++;
  } catch (error) {
    outcome.failed++;
    ctx.log.warn(
      { err: error, serviceId, attempts },
      "cannot evaluate the autoscaling of the service",
    );
    const retrySeconds = Math.min(2 ** attempts, RETRY_SECONDS_MAX);
    // Without the postponement the service is due again when its claim expires.
    await postponeAutoscale(ctx.db, serviceId, retrySeconds).catch((failure: unknown) =>
      ctx.log.warn(
        { err: failure, serviceId },
        "cannot postpone the next evaluation of the service",
      ),
    );
  }
}

/**
 * Makes a service due if it holds a resolved demand that nothing would release: the `demand-audit`
 * sweep. Returns the number of services.
 */
export function auditDueServices(ctx: Pick<ControlContext, "db">): Promise<number> {
  return markOverlookedServicesDue(ctx.db);
}
