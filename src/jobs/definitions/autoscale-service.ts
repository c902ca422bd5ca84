import { jobPayloads } from "../../contracts/jobs.ts";
import { autoscaleService } from "../../control/autoscaling/autoscale-service.ts";
import { defineJob } from "../queue/define-job.ts";

/** Evaluates how many sets a service should have, and scales it. */
export const autoscaleServiceJob = defineJob({
  name: "autoscale-service",
  queue: "autoscale",
  payload: jobPayloads["autoscale-service"],
  attempts: 5,
  backoffMs: 200,
  timeoutMs: 30_000,
  concurrency: 8,
  isShared: false,
  handler: async ({ ctx }, { serviceId }) => {
    const decided = await autoscaleService(ctx, serviceId);
    return { outcome: decided?.acted ? "done" : "noop", serviceId, ...decided };
  },
});
