import { type JobRing, queueNames, queueOfJob } from "../contracts/jobs.ts";
import type { Log } from "../lib/log.ts";
import type { Doorbell } from "../services/context.ts";
import { jobRetention, type Queues } from "./queues.ts";
import { jobDefinitions } from "./registry.ts";

/** A ring that takes longer is left to the outbox relay: no request waits for a Redis that is away. */
const RING_TIMEOUT_MS = 250;

export interface DoorbellOptions {
  queues: Queues;
  /** Removes rows of the outbox once their jobs are in BullMQ. */
  deleteOutbox(ids: readonly number[]): Promise<void>;
  log: Log;
}

/**
 * Rings jobs in BullMQ. A job id that is waiting or active already is one job, so ringing twice is harmless. Never throws: what is not
 * rung stays in the outbox.
 */
export function createDoorbell(options: DoorbellOptions): Doorbell {
  return {
    async ring(jobs, outboxIds) {
      if (jobs.length === 0) return;
      try {
        await withTimeout(addJobs(options.queues, jobs), RING_TIMEOUT_MS);
      } catch (error) {
        options.log.warn(
          { err: error, jobs: jobs.length },
          "doorbell not rung; the outbox relay will",
        );
        return;
      }
      if (outboxIds.length === 0) return;
      // Not waited for: the intent is carried out either way, and a row left over is rung once more.
      options
        .deleteOutbox(outboxIds)
        .catch((error: unknown) =>
          options.log.warn({ err: error }, "outbox rows not deleted; the relay will"),
        );
    },
  };
}

/** Adds jobs to their queues, one round trip a queue. Throws when Redis is away. */
export async function addJobs(queues: Queues, jobs: readonly JobRing[]): Promise<void> {
  await Promise.all(
    queueNames.map(async (name) => {
      const own = jobs.filter((job) => queueOfJob[job.name] === name);
      if (own.length === 0) return;
      await queues[name].addBulk(
        own.map((job) => ({
          name: job.name,
          data: job.payload,
          opts: { ...jobRetention, ...retriesOf(job), jobId: job.jobId },
        })),
      );
    }),
  );
}

function retriesOf(job: JobRing) {
  const { attempts, backoffMs } = jobDefinitions[job.name];
  return { attempts, backoff: { type: "exponential", delay: backoffMs } };
}

async function withTimeout<T>(work: Promise<T>, timeoutMs: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
  });
  try {
    return await Promise.race([work, timeout]);
  } finally {
    clearTimeout(timer);
  }
}
