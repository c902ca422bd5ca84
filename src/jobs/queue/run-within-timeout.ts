import { AppError } from "../../contracts/common/app-error.ts";
import { withTimeout } from "../../lib/async/with-timeout.ts";
import type { DefinedJob, JobDeps, JobOutcome } from "./define-job.ts";

/**
 * Runs a job. Throws the error of its work, and request-timeout after the timeout of the job. The
 * work may still complete after that, so it must be safe to run again meanwhile. Shared work may
 * stop early once `signal` aborts.
 */
export async function runWithinTimeout(
  definition: DefinedJob,
  deps: JobDeps,
  payload: unknown,
  signal?: AbortSignal,
): Promise<JobOutcome> {
  const run = definition.run(deps, payload, signal);
  const result = await withTimeout(run, definition.timeoutMs, undefined);
  if (result) return result;
  throw new AppError("request-timeout", {
    detail: `The job did not end within ${definition.timeoutMs} ms. Its work may still complete.`,
  });
}
