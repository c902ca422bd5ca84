import type { z } from "zod";
import type { JobName, jobPayloads, QueueName } from "../../contracts/jobs.ts";
import { AppError } from "../../contracts/common/app-error.ts";
import type { ControlContext } from "../../control/runtime/context.ts";
import type { PlaceOutcome } from "../../control/placement/place-pending-sets.ts";

/** The dependencies of job handlers. One per process. */
export interface JobDeps {
  ctx: ControlContext;
  /** Places the pending sets that are due. Calls during a run share the next run. */
  placeSets: () => Promise<PlaceOutcome>;
  /**
   * Takes the next step of each move in progress, and returns the number of steps. Calls during a
   * run share the next run.
   */
  moveSets: (signal?: AbortSignal) => Promise<number>;
}

/** The result of one attempt, for its log line. `noop`: there was nothing to do. */
export interface JobOutcome {
  outcome: "done" | "noop";
  [detail: string]: unknown;
}

/** How jobs of one name are enqueued, retried and bounded. */
export interface JobRules {
  attempts: number;
  /** The delay before the first retry. It doubles with each attempt; half of it is jitter. */
  backoffMs: number;
  timeoutMs: number;
  /** The number of concurrent attempts in one job worker process. */
  concurrency: number;
  /**
   * The handler does all due work, whatever job triggered it, so concurrent requests share a job.
   */
  isShared: boolean;
}

export interface JobDefinition<N extends JobName> extends JobRules {
  name: N;
  queue: QueueName;
  payload: (typeof jobPayloads)[N];
  /**
   * Must be safe to run concurrently with itself, late, and again after a crash in the middle. Only
   * a shared job may stop early once `signal` aborts.
   */
  handler(
    deps: JobDeps,
    payload: z.output<(typeof jobPayloads)[N]>,
    signal?: AbortSignal,
  ): Promise<JobOutcome>;
}

export interface DefinedJob extends JobRules {
  name: JobName;
  queue: QueueName;
  payload: z.ZodType;
  /**
   * Parses the payload and runs the handler. Throws invalid-request, which is not retried, for an
   * invalid payload.
   */
  run(deps: JobDeps, data: unknown, signal?: AbortSignal): Promise<JobOutcome>;
}

export function defineJob<N extends JobName>(definition: JobDefinition<N>): DefinedJob {
  return {
    ...definition,
    run: (deps, data, signal) => {
      const parsed = definition.payload.safeParse(data);
      if (!parsed.success) {
        throw new AppError("invalid-request", {
          detail: `The payload of a ${definition.name} job is not valid.`,
          cause: parsed.error,
        });
      }
      // The compiler cannot relate the schema of N to the payload of N.
      return definition.handler(deps, parsed.data as z.output<(typeof jobPayloads)[N]>, signal);
    },
  };
}
