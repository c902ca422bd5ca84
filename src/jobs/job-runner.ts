import { type ConnectionOptions, type Job, UnrecoverableError, Worker } from "bullmq";
import { ZodError } from "zod";
import { AppError } from "../contracts/app-error.ts";
import { type QueueName, queueNames } from "../contracts/jobs.ts";
import { InvariantError } from "../lib/assert.ts";
import { type JobContext, queueConcurrency, runJob } from "./registry.ts";

export interface JobRunnerOptions extends JobContext {
  /** A connection of its own kind: blocking, and patient with a Redis that is away. */
  connection: ConnectionOptions;
  prefix: string;
  /** Told once an attempt, for metrics. */
  onAttempt?: (attempt: {
    queue: QueueName;
    job: string;
    outcome: "done" | "retry" | "failed";
    seconds: number;
  }) => void;
}

export interface JobRunner {
  /** Takes no new jobs and waits for those under way, up to `timeoutMs`; what is left then is taken over as stalled. */
  stop(timeoutMs: number): Promise<void>;
}

/** Runs jobs of all queues in this process. Any number of processes may do so. */
export function startJobRunner(options: JobRunnerOptions): JobRunner {
  const runners = queueNames.map((name) => {
    const runner = new Worker(name, (job) => runAttempt(options, name, job), {
      connection: options.connection,
      prefix: options.prefix,
      concurrency: queueConcurrency[name],
      lockDuration: 60_000,
      stalledInterval: 15_000,
      maxStalledCount: 3,
      skipVersionCheck: true,
    });
    runner.on("error", (error) =>
      options.ctx.log.warn({ err: error, queue: name }, "job worker trouble"),
    );
    return runner;
  });
  return {
    async stop(timeoutMs) {
      const closing = Promise.all(runners.map((runner) => runner.close()));
      const timer = setTimeout(() => {
        for (const runner of runners) void runner.close(true).catch(() => undefined);
      }, timeoutMs);
      await closing.finally(() => clearTimeout(timer));
    },
  };
}

/** One attempt, one log line. What cannot get better by itself is not tried again. */
async function runAttempt(options: JobRunnerOptions, queue: QueueName, job: Job): Promise<object> {
  const startedMs = performance.now();
  const fields = { queue, job: job.name, jobId: job.id, attempt: job.attemptsMade + 1 };
  const finish = (outcome: "done" | "retry" | "failed") => {
    const seconds = (performance.now() - startedMs) / 1000;
    options.onAttempt?.({ queue, job: job.name, outcome, seconds });
    return { ...fields, outcome, durationMs: Math.round(seconds * 1000) };
  };
  try {
    const result = await runJob(options, job.name, job.data);
    options.ctx.log.info({ ...finish("done"), result }, "job");
    return result;
  } catch (error) {
    const isFinal = isHopeless(error);
    options.ctx.log.error({ ...finish(isFinal ? "failed" : "retry"), err: error }, "job");
    if (isFinal)
      throw new UnrecoverableError(error instanceof Error ? error.message : String(error));
    throw error;
  }
}

function isHopeless(error: unknown): boolean {
  if (error instanceof AppError) return !error.retryable;
  return error instanceof ZodError || error instanceof InvariantError;
}
