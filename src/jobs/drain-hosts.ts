import { jobPayloads } from "../contracts/jobs.ts";
import { drainHosts } from "../services/drain-hosts.ts";
import { defineJob } from "./define-job.ts";

/** Begins to empty hosts at once; the sweep goes on with it. */
export const drainHostsJob = defineJob({
  name: "drain-hosts",
  queue: "lifecycle",
  payload: jobPayloads["drain-hosts"],
  attempts: 5,
  backoffMs: 200,
  timeoutMs: 60_000,
  concurrency: 1,
  handler: async ({ ctx }, { cause }) => {
    const moved = await drainHosts(ctx);
    return { outcome: moved === 0 ? "noop" : "done", cause, moved };
  },
});
