import { jobPayloads } from "../../contracts/jobs.ts";
import { reconcileService } from "../../control/replicas/reconcile-replicas.ts";
import { defineJob } from "../queue/define-job.ts";

/** Adds missing sets of a service, and removes surplus ones. A stale generation changes nothing. */
export const reconcileServiceJob = defineJob({
  name: "reconcile-service",
  queue: "lifecycle",
  payload: jobPayloads["reconcile-service"],
  attempts: 5,
  backoffMs: 200,
  timeoutMs: 60_000,
  concurrency: 8,
  isShared: false,
  handler: async ({ ctx }, { serviceId, generation }) => {
    const done = await reconcileService(ctx, serviceId, generation);
    if (!done) return { outcome: "noop", serviceId, generation };
    const { created, deleted } = done;
    return { outcome: "done", serviceId, generation, created, deleted };
  },
});
