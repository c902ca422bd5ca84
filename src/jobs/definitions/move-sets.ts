import { jobPayloads } from "../../contracts/jobs.ts";
import { defineJob } from "../queue/define-job.ts";

/** Starts requested moves immediately. The sweep takes their next steps. */
export const moveSetsJob = defineJob({
  name: "move-sets",
  queue: "lifecycle",
  payload: jobPayloads["move-sets"],
  attempts: 5,
  backoffMs: 200,
  // A round lasts about 30 s, and a job may wait for the round before its own.
  timeoutMs: 90_000,
  concurrency: 1,
  isShared: true,
  handler: async ({ moveSets }, { cause }, signal) => {
    const moved = await moveSets(signal);
    return { outcome: moved === 0 ? "noop" : "done", cause, moved };
  },
});
