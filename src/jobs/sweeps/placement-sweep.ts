import type { JobRequest } from "../../contracts/jobs.ts";
import { findLongestOverdueMs } from "../../control/placement/retry-pending.ts";
import type { SweepDeps } from "./sweep-deps.ts";

export const PLACEMENT_SWEEP_MS = 2_000;
/** A set that is overdue for this time shows that no job runs, for example in a paused queue. */
const OVERDUE_MS = 5_000;

/** Places pending sets whose retry is due: with a job, or in this process if jobs do not run. */
export async function sweepPlacements(deps: SweepDeps, signal: AbortSignal): Promise<void> {
  const dueMs = await findLongestOverdueMs(deps.ctx);
  if (dueMs === undefined || signal.aborted) return;
  const job: JobRequest = {
    name: "place-sets",
    jobId: `sweep:placement:${Math.floor(Date.now() / PLACEMENT_SWEEP_MS)}`,
    payload: { cause: "sweep" },
  };
  if (dueMs > OVERDUE_MS || !(await deps.jobQueue.tryEnqueue([job], []))) await deps.placeSets();
}
