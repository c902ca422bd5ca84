import type { z } from "zod";
import type { JobName, jobPayloads, QueueName } from "../../contracts/jobs.ts";
import { AppError } from "../../contracts/common/app-error.ts";
import type { ControlContext } from "../../control/runtime/context.ts";
import type { PlaceOutcome } from "../../control/placement/place-pending-sets.ts";

/** What handlers may use. One per process. */
export interface JobDeps {
  ctx: ControlContext;
  /** Places what is due. Calls made meanwhile share the next run. */
  placeSets: () => Promise<PlaceOutcome>;
  /** Takes the next step of every move that is under way; gives how many. Calls made meanwhile share the next run. */
  moveSets: () => Promise<number>;
}

/** What came of one attempt, for its log line. noop: there was nothing to do any more. */
export interface JobOutcome {
  outcome: "done" | "noop";
  [detail: string]: unknown;
}

/** How a job is queued and retried; all that whoever rings it needs to know. */
export interface JobRules {
  attempts: number;
  /** Doubles with every attempt, with half of it as jitter. */
  backoffMs: number;
  timeoutMs: number;
  /** Attempts of it at once in one job worker process. */
  concurrency: number;
  /** Does all that there is to do, whoever rang: one job does for all that ring in one moment. */
  isShared: boolean;
}

export interface JobDefinition<N extends JobName> extends JobRules {
  name: N;
  queue: QueueName;
  payload: (typeof jobPayloads)[N];
  /** Safe to run twice at once, late, and again after it was killed in the middle. */
  handler(deps: JobDeps, payload: z.output<(typeof jobPayloads)[N]>): Promise<JobOutcome>;
}

export interface DefinedJob extends JobRules {
  name: JobName;
  queue: QueueName;
  payload: z.ZodType;
  /** Parses the payload, then does the work. Throws invalid-request, which is not retried, for a payload it does not know. */
  run(deps: JobDeps, data: unknown): Promise<JobOutcome>;
}

export function defineJob<N extends JobName>(definition: JobDefinition<N>): DefinedJob {
  return {
    ...definition,
    run: (deps, data) => {
      const parsed = definition.payload.safeParse(data);
      if (!parsed.success) {
        throw new AppError("invalid-request", {
          detail: `The payload of a ${definition.name} job is not valid.`,
          cause: parsed.error,
        });
      }
      // The schema of N gives the payload of N, which the compiler does not follow through the table.
      return definition.handler(deps, parsed.data as z.output<(typeof jobPayloads)[N]>);
    },
  };
}
