import { type JobRequest, type QueueName, queueOfJob } from "../../contracts/jobs.ts";
import type { Log } from "../../lib/log.ts";
import { within } from "../../lib/async/with-timeout.ts";
import type { JobQueue } from "../../control/runtime/context.ts";
import type { JobQueues } from "./job-queues.ts";
import type { JobRegistry } from "../registry.ts";

const RING_TIMEOUT_MS = 250;
const FORGET_DELAY_MS = 20;
/** Rings that wait while Redis is slow. Further ones are dropped: their outbox rows stay, and are rung by the relay. */
const RINGS_WAITING_MAX = 20_000;
const FAILED_JOBS_KEPT_MAX = 1_000;
const FAILED_JOBS_AGE_SECONDS = 7 * 86_400;

export interface BullmqJobQueueOptions {
  queues: JobQueues;
  registry: JobRegistry;
  deleteOutbox(ids: readonly number[]): Promise<void>;
  log: Log;
  /** Deletes outbox rows before `ring` resolves, for whoever ends with its request. */
  isShortLived?: boolean;
  enqueueTimeoutMs?: number;
}

/**
 * Rings over BullMQ: one pipelined call per queue, bounded in time. What is rung while a call is on its way goes together in the
 * next one, and of jobs that are shared (see JobRules) one goes for all: it comes after every intent that it is for. So a
 * burst of a thousand small services is not a thousand jobs. Once a job is in BullMQ its outbox row is deleted, a little later
 * and together with others, so that no request waits for it; a row that stays is rung again by the relay.
 *
 * The job id ends in the outbox id where there is one. So the relay's ring is the same job as the first, but two
 * intents are never one: a ring that came while an older job with its id was ending would be lost.
 */
export class BullmqJobQueue implements JobQueue {
  readonly #options: BullmqJobQueueOptions;
  #waiting: Ring[] = [];
  #sending: Promise<unknown> = Promise.resolve();
  #next: Promise<void> | undefined;
  #forgetting: number[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #deleting: Promise<void> = Promise.resolve();

  constructor(options: BullmqJobQueueOptions) {
    this.#options = options;
  }

  async enqueue(jobs: readonly JobRequest[], outboxIds: readonly number[]): Promise<void> {
    await this.tryEnqueue(jobs, outboxIds);
  }

  /** The same; true when the jobs are in BullMQ for certain. */
  async tryEnqueue(jobs: readonly JobRequest[], outboxIds: readonly number[]): Promise<boolean> {
    const { log, isShortLived, enqueueTimeoutMs } = this.#options;
    if (this.#waiting.length + jobs.length > RINGS_WAITING_MAX) return false;
    const isEachOwn = jobs.length === outboxIds.length;
    for (const [position, job] of jobs.entries()) {
      this.#waiting.push({ job, outboxId: isEachOwn ? outboxIds[position] : undefined });
    }
    const added = this.#sendNext().then(
      () => true,
      (error: unknown) => {
        log.debug({ err: error, jobs: jobs.length }, "ring failed");
        return false;
      },
    );
    const isRung = await within(added, enqueueTimeoutMs ?? RING_TIMEOUT_MS, false);
    if (!isRung) return false;
    this.#forgetting.push(...outboxIds);
    if (isShortLived) await this.#forget();
    else this.#timer ??= setTimeout(() => void this.#forget(), FORGET_DELAY_MS);
    return true;
  }

  /** Deletes the outbox rows that are still to be deleted. */
  async close(): Promise<void> {
    await this.#forget();
  }

  /** Sends all that waits once the call before it is over. */
  #sendNext(): Promise<void> {
    this.#next ??= this.#sending.then(() => {
      this.#next = undefined;
      const rings = this.#waiting;
      this.#waiting = [];
      const added = this.#add(rings);
      this.#sending = added.catch(() => undefined); // those who rang have its error
      return added;
    });
    return this.#next;
  }

  async #add(rings: readonly Ring[]): Promise<void> {
    const { queues, registry } = this.#options;
    const perQueue = new Map<QueueName, Bulk>();
    for (const { job, outboxId } of withoutShared(rings, registry)) {
      const rules = registry.get(job.name);
      const queue = queueOfJob[job.name];
      const bulk = perQueue.get(queue) ?? [];
      bulk.push({
        name: job.name,
        data: job.payload,
        opts: {
          jobId: toJobId(job.jobId, outboxId),
          attempts: rules?.attempts ?? 1,
          backoff: { type: "exponential", delay: rules?.backoffMs ?? 0, jitter: 0.5 },
          removeOnComplete: true,
          removeOnFail: { age: FAILED_JOBS_AGE_SECONDS, count: FAILED_JOBS_KEPT_MAX },
        },
      });
      perQueue.set(queue, bulk);
    }
    await Promise.all([...perQueue].map(([queue, bulk]) => addTo(queues.get(queue), bulk)));
  }

  #forget(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const ids = this.#forgetting;
    this.#forgetting = [];
    if (ids.length === 0) return this.#deleting;
    const deleted = this.#options.deleteOutbox(ids).catch((error: unknown) => {
      this.#options.log.debug({ err: error, rows: ids.length }, "outbox rows stay");
    });
    this.#deleting = Promise.all([this.#deleting, deleted]).then(() => undefined);
    return this.#deleting;
  }
}

type Bulk = Parameters<ReturnType<JobQueues["get"]>["addBulk"]>[0];

/** One job alone, as it mostly is, needs no transaction of Redis. */
async function addTo(queue: ReturnType<JobQueues["get"]>, bulk: Bulk): Promise<void> {
  const [only, ...others] = bulk;
  if (only && others.length === 0) await queue.add(only.name, only.data, only.opts);
  else await queue.addBulk(bulk);
}

interface Ring {
  job: JobRequest;
  outboxId: number | undefined;
}

/** Of each shared job only the last ring. */
function withoutShared(rings: readonly Ring[], registry: JobRegistry): Ring[] {
  const last = new Map(rings.map((ring) => [ring.job.name, ring]));
  return rings.filter(
    (ring) => registry.get(ring.job.name)?.isShared !== true || last.get(ring.job.name) === ring,
  );
}

/** BullMQ keeps colons in ids to itself. */
export function toJobId(id: string, outboxId: number | undefined): string {
  const base = id.replaceAll(":", ".");
  return outboxId === undefined ? base : `${base}.o${outboxId}`;
}
