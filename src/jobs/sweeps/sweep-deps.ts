import type { BullmqJobQueue } from "../queue/bullmq-job-queue.ts";
import type { JobDeps } from "../queue/define-job.ts";
import type { JobRegistry } from "../registry.ts";
import type { SweepRun } from "./repeat-sweep.ts";

/** The dependencies of sweeps. One per process. */
export interface SweepDeps extends JobDeps {
  jobQueue: BullmqJobQueue;
  registry: JobRegistry;
  /** Called after each run of a sweep, for metrics. */
  onSweep?: (run: SweepRun) => void;
  /** Called when a run hangs. The process should end, so that another one takes over the work. */
  onHung?: () => void;
}
