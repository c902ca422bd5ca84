import { type JobRequest, type QueueName, queueOfJob } from "../../contracts/jobs.ts";
import type { JobQueue } from "../../control/runtime/context.ts";
import { withTimeout } from "../../lib/async/with-timeout.ts";
import type { Log } from "../../lib/log.ts";
import type { JobRegistry } from "../registry.ts";
import type { JobQueues } from "./job-queues.ts";

const ENQUEUE_TIMEOUT_MS = 250;
/** Jobs that may wait while Redis is slow. The outbox relay enqueues further ones later. */
const JOBS_WAITING_MAX = 20_000;
const FAILED_JOBS_RETAINED_MAX = 1_000;
const FAILED_JOBS_AGE_SECONDS = 7 * 86_400;

export interface BullmqJobQueueOptions {
  queues: JobQueues;
  registry: JobRegistry;
  log: Log;
  enqueueTimeoutMs?: number;
}

/**
 * Adds jobs to BullMQ with one pipelined call per queue, bounded in time. Jobs that arrive while a
 * call is in flight share the next call. Several shared jobs (see JobRules) become one job, which
 * is enqueued after all their intents and contains the ids of all their outbox rows. So a burst of
 * a thousand small services does not become a thousand jobs.
 *
 * A job contains the ids of its outbox rows; the job worker deletes the rows when the work is done.
 * The job id ends in the outbox id. So a repetition by the relay has the same job id, and two
 * intents have different ones.
 */
export class BullmqJobQueue implements JobQueue {
  readonly #options: BullmqJobQueueOptions;
  #waiting: Entry[] = [];
  #sending: Promise<unknown> = Promise.resolve();
  #next: Promise<void> | undefined;

  constructor(options: BullmqJobQueueOptions) {
    this.#options = options;
  }

  async enqueue(jobs: readonly JobRequest[], outboxIds: readonly number[]): Promise<void> {
    await this.tryEnqueue(jobs, outboxIds);
  }

  /** Enqueues the jobs, and returns true if BullMQ confirmed them in time. */
  async tryEnqueue(jobs: readonly JobRequest[], outboxIds: readonly number[]): Promise<boolean> {
    const { log, enqueueTimeoutMs } = this.#options;
    if (this.#waiting.length + jobs.length > JOBS_WAITING_MAX) return false;
    const isOneRowEach = jobs.length === outboxIds.length;
    for (const [position, job] of jobs.entries()) {
      const outboxId = isOneRowEach ? outboxIds[position] : undefined;
      this.#waiting.push({ job, outboxIds: outboxId === undefined ? [] : [outboxId] });
    }
    const added = this.#sendNext().then(
      () => true,
      (error: unknown) => {
        log.debug({ err: error, jobs: jobs.length }, "cannot enqueue jobs");
        return false;
      },
    );
    return withTimeout(added, enqueueTimeoutMs ?? ENQUEUE_TIMEOUT_MS, false);
  }

  /** Sends all waiting jobs when the call in flight has ended. */
  #sendNext(): Promise<void> {
    this.#next ??= this.#sending.then(() => {
      this.#next = undefined;
      const entries = this.#waiting;
      this.#waiting = [];
      const added = this.#add(entries);
      this.#sending = added.catch(() => undefined); // the callers of tryEnqueue handle its error
      return added;
    });
    return this.#next;
  }

  async #add(entries: readonly Entry[]): Promise<void> {
    const { queues, registry } = this.#options;
    const perQueue = new Map<QueueName, Bulk>();
    for (const { job, outboxIds } of mergeShared(entries, registry)) {
      const rules = registry.get(job.name);
      const queue = queueOfJob[job.name];
      const bulk = perQueue.get(queue) ?? [];
      bulk.push({
        name: job.name,
        data: { ...job.payload, outboxIds },
        opts: {
          jobId: toJobId(job.jobId, outboxIds.at(-1)),
          attempts: rules?.attempts ?? 1,
          backoff: { type: "exponential", delay: rules?.backoffMs ?? 0, jitter: 0.5 },
          removeOnComplete: true,
          removeOnFail: { age: FAILED_JOBS_AGE_SECONDS, count: FAILED_JOBS_RETAINED_MAX },
        },
      });
      perQueue.set(queue, bulk);
    }
    await Promise.all([...perQueue].map(([queue, bulk]) => addTo(queues.get(queue), bulk)));
  }
}

type Bulk = Parameters<ReturnType<JobQueues["get"]>["addBulk"]>[0];

/** A single job is the most frequent case and needs no Redis transaction. */
async function addTo(queue: ReturnType<JobQueues["get"]>, bulk: Bulk): Promise<void> {
  const [only, ...others] = bulk;
  if (only && others.length === 0) await queue.add(only.name, only.data, only.opts);
  else await queue.addBulk(bulk);
}

interface Entry {
  job: JobRequest;
  outboxIds: number[];
}

/** Merges the entries of each shared job into its last one. */
function mergeShared(entries: readonly Entry[], registry: JobRegistry): Entry[] {
  const merged: Entry[] = [];
  const shared = new Map<JobRequest["name"], number[]>();
  for (const entry of entries.toReversed()) {
    const { name } = entry.job;
    const outboxIds = shared.get(name);
    if (outboxIds) {
      outboxIds.unshift(...entry.outboxIds);
      continue;
    }
    const copy = { job: entry.job, outboxIds: [...entry.outboxIds] };
    if (registry.get(name)?.isShared === true) shared.set(name, copy.outboxIds);
    merged.push(copy);
  }
  return merged.toReversed();
}

/** Replaces colons, which BullMQ reserves in job ids. */
export function toJobId(id: string, outboxId: number | undefined): string {
  const base = id.replaceAll(":", ".");
  return outboxId === undefined ? base : `${base}.o${outboxId}`;
}
