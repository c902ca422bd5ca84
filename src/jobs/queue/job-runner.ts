import { setTimeout as delay } from "node:timers/promises";
import { type Job, UnrecoverableError, Worker } from "bullmq";
import type { Redis } from "ioredis";
import { AppError } from "../../contracts/common/app-error.ts";
import { type JobName, type QueueName, queueNames } from "../../contracts/jobs.ts";
import { assert } from "../../lib/assert.ts";
import { runWithinTimeout } from "./run-within-timeout.ts";
import { withTimeout } from "../../lib/async/with-timeout.ts";
import { translateError } from "../../control/runtime/errors.ts";
import type { CompletedJobs } from "./completed-jobs.ts";
import type { JobDeps, JobOutcome } from "./define-job.ts";
import { computeConcurrency, isShared, type JobRegistry } from "../registry.ts";

/** A killed job worker blocks its jobs for this time and up to one check for stalled jobs. */
const LOCK_MS = 15_000;
const STALLED_CHECK_MS = 5_000;
const STALLED_TIMES_MAX = 5;
const RESTART_DELAY_MS = 1_000;
/** Attempts with a smaller gap belong to one burst. */
const BURST_GAP_MS = 10;

export interface JobAttempt {
  queue: QueueName;
  job: string;
  outcome: JobOutcome["outcome"] | "retry" | "failed";
  durationMs: number;
}

export interface JobRunnerOptions {
  redis: Redis;
  prefix: string;
  registry: JobRegistry;
  deps: JobDeps;
  /** Deletes the outbox rows of jobs whose work is done. */
  completed: CompletedJobs;
  /** Called after each attempt, for metrics. */
  onAttempt?: (attempt: JobAttempt) => void;
}

export interface JobRunner {
  /**
   * Takes no more jobs, and waits for those in progress. After `deadlineMs` it abandons the
   * remaining ones: another job worker takes over the stalled jobs.
   */
  close(deadlineMs: number): Promise<void>;
}

/** Runs the jobs of all queues in this process. Any number of processes may run jobs. */
export function startJobRunner(options: JobRunnerOptions): JobRunner {
  const queues = queueNames.map((queue) => startQueue(options, queue));
  return {
    close: async (deadlineMs) => void (await Promise.all(queues.map((stop) => stop(deadlineMs)))),
  };
}

/**
 * Runs one queue until it is stopped. It restarts the job worker after a failure, for example if
 * Redis was unreachable at the start.
 */
function startQueue(
  options: JobRunnerOptions,
  queue: QueueName,
): (deadlineMs: number) => Promise<void> {
  const { log } = options.deps.ctx;
  const stopping = new AbortController();
  const { signal } = stopping;
  let jobWorker = openJobWorker(options, queue);
  const loop = async (): Promise<void> => {
    for (;;) {
      await jobWorker.run().catch((error: unknown) => {
        if (!signal.aborted) log.warn({ err: error, queue }, "job worker failed; restarting");
      });
      await delay(RESTART_DELAY_MS, undefined, { signal }).catch(() => undefined);
      if (signal.aborted) return;
      jobWorker.close(true).catch(() => undefined); // it has already failed
      jobWorker = openJobWorker(options, queue);
    }
  };
  void loop();
  return async (deadlineMs) => {
    stopping.abort();
    const closed = jobWorker.close().then(
      () => true,
      () => true,
    );
    if (await withTimeout(closed, deadlineMs, false)) return;
    log.warn(
      { queue, deadlineMs },
      "jobs did not end before the deadline; another job worker takes over",
    );
    const forced = jobWorker.close(true).catch(() => undefined);
    await withTimeout(forced, RESTART_DELAY_MS, undefined);
  };
}

/**
 * Shared jobs run one at a time outside of bursts. With a higher concurrency, BullMQ 6.7 fetches a
 * second job before it starts the first, and again while the first runs. That would be a large part
 * of the time in which Berth places a single set.
 */
function openJobWorker(options: JobRunnerOptions, queue: QueueName): Worker {
  const { redis, prefix, registry, deps } = options;
  const concurrency = computeConcurrency(registry, queue);
  let endedAtMs = -Infinity;
  const attempt = async (job: Job): Promise<JobOutcome> => {
    const isBurst = performance.now() - endedAtMs < BURST_GAP_MS;
    if (isShared(registry, queue)) jobWorker.concurrency = isBurst ? concurrency : 1;
    try {
      return await runAttempt(options, queue, job);
    } finally {
      endedAtMs = performance.now();
    }
  };
  const jobWorker = new Worker(queue, attempt, {
    connection: redis,
    prefix,
    autorun: false,
    concurrency: isShared(registry, queue) ? 1 : concurrency,
    lockDuration: LOCK_MS,
    stalledInterval: STALLED_CHECK_MS,
    maxStalledCount: STALLED_TIMES_MAX,
  });
  jobWorker.on("error", (error) => deps.ctx.log.debug({ err: error, queue }, "job worker error"));
  jobWorker.on("stalled", (jobId) =>
    deps.ctx.log.warn({ queue, jobId }, "job stalled; taking it over"),
  );
  return jobWorker;
}

/** Runs one attempt and writes one log line. A permanent error ends the job without a retry. */
async function runAttempt(
  options: JobRunnerOptions,
  queue: QueueName,
  job: Job,
): Promise<JobOutcome> {
  const { log } = options.deps.ctx;
  const startedAtMs = performance.now();
  const attempt = job.attemptsMade + 1;
  const fields = { queue, job: job.name, jobId: job.id, attempt };
  const note = (outcome: JobAttempt["outcome"]) => {
    const durationMs = Math.round((performance.now() - startedAtMs) * 10) / 10;
    options.onAttempt?.({ queue, job: job.name, outcome, durationMs });
    return { ...fields, outcome, durationMs, waitedMs: (job.processedOn ?? 0) - job.timestamp };
  };
  try {
    const result = await runDefined(options, job);
    options.completed.add(readOutboxIds(job));
    log.info({ ...result, ...note(result.outcome) }, "job");
    return result;
  } catch (thrown) {
    const error = translateError(thrown);
    const isPermanent = error instanceof AppError && !error.retryable;
    const isLast = isPermanent || attempt >= (job.opts.attempts ?? 1);
    if (isLast) log.error({ ...note("failed"), err: error }, "job");
    else log.warn({ ...note("retry"), err: error }, "job");
    if (isPermanent) throw new UnrecoverableError(error.message);
    throw error;
  }
}

/**
 * The outbox rows of the job. Jobs of an older release have none: that release deleted the rows
 * when it enqueued.
 */
function readOutboxIds(job: Job): number[] {
  const ids: unknown = (job.data as { outboxIds?: unknown } | undefined)?.outboxIds;
  return Array.isArray(ids) ? ids.filter((id): id is number => Number.isSafeInteger(id)) : [];
}

function runDefined(options: JobRunnerOptions, job: Job): Promise<JobOutcome> {
  const definition = options.registry.get(job.name as JobName);
  assert(definition, `no job is named ${job.name}`);
  return runWithinTimeout(definition, options.deps, job.data);
}
