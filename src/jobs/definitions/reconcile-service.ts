import { jobPayloads } from "../../contracts/jobs.ts";
import { reconcileService } from "../../control/replicas/reconcile-replicas.ts";
import { defineJob } from "../queue/define-job.ts";

/** Adds the sets that a service lacks and removes those it has too many. An older generation has nothing to say any more. */
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
