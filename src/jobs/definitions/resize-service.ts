import { jobPayloads } from "../../contracts/jobs.ts";
import { continueResize } from "../../control/services/resize-round.ts";
import { defineJob } from "../queue/define-job.ts";

/** Resizes the next sets of a service. The sweep runs a round whose job was lost. */
export const resizeServiceJob = defineJob({
  name: "resize-service",
  queue: "lifecycle",
  payload: jobPayloads["resize-service"],
  attempts: 5,
  backoffMs: 200,
  timeoutMs: 60_000,
  concurrency: 8,
  isShared: false,
  handler: async ({ ctx }, { serviceId }) => {
    const resized = await continueResize(ctx, serviceId);
    return { outcome: resized === 0 ? "noop" : "done", serviceId, resized };
  },
});
