import { jobPayloads } from "../../contracts/jobs.ts";
import { defineJob } from "../queue/define-job.ts";

/**
 * Places every pending set that is due. High concurrency costs nothing: concurrent attempts share
 * the runs of one placer, so a thousand jobs need only a few transactions.
 */
export const placeSetsJob = defineJob({
  name: "place-sets",
  queue: "placement",
  payload: jobPayloads["place-sets"],
  attempts: 5,
  backoffMs: 200,
  timeoutMs: 120_000,
  concurrency: 100,
  isShared: true,
  handler: async ({ placeSets }, { cause }) => {
    const outcome = await placeSets();
    const isIdle = outcome.placed === 0 && outcome.rejected === 0;
    return { outcome: isIdle ? "noop" : "done", cause, ...outcome };
  },
});
