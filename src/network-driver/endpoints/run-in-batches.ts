import type { ConcurrencyLimit } from "../../lib/async/concurrency-limit.ts";
import type { KeyedLock } from "../../lib/async/keyed-lock.ts";

/** A small batch, because a call of Docker for one of its endpoints waits until it ends. */
const BATCH_TASKS_MAX = 16;

export interface EndpointTask<Observed, Result> {
  /** The endpoint whose lock the task needs. */
  endpointId: string;
  run: (observed: Observed) => Promise<Result>;
}

/**
 * Runs tasks in their order, in batches. A batch observes once, while it holds the locks of its
 * endpoints. So 1,000 tasks do not each list 1,000 links. A failed task prevents no other one.
 *
 * Omits tasks whose endpoint is locked, because a call of Docker is changing it. `hasOmitted` says
 * whether it has omitted some. Starts no further batch once the signal is aborted.
 */
export async function runInBatches<Observed, Result>(
  {
    lock,
    limit,
    observe,
  }: { lock: KeyedLock; limit: ConcurrencyLimit; observe: () => Promise<Observed> },
  tasks: readonly EndpointTask<Observed, Result>[],
  signal: AbortSignal,
): Promise<{ results: Result[]; errors: unknown[]; hasOmitted: boolean }> {
  const results: Result[] = [];
  const errors: unknown[] = [];
  let hasOmitted = false;
  for (let start = 0; start < tasks.length && !signal.aborted; start += BATCH_TASKS_MAX) {
    const batch = tasks.slice(start, start + BATCH_TASKS_MAX);
    const free = batch.filter(({ endpointId }) => !lock.isHeld(endpointId));
    hasOmitted ||= free.length < batch.length;
    // Sorted, so that two convergences never wait for each other.
    const endpointIds = [...new Set(free.map(({ endpointId }) => endpointId))].sort();
    const run = async (): Promise<PromiseSettledResult<Result>[]> => {
      const observed = await observe();
      return Promise.allSettled(free.map((task) => limit(() => task.run(observed))));
    };
    try {
      for (const result of await holdAll(lock, endpointIds, run, signal))
        if (result.status === "fulfilled") results.push(result.value);
        else errors.push(result.reason);
    } catch (error) {
      errors.push(error);
    }
  }
  return { results, errors, hasOmitted };
}

/** Runs the work while it holds all locks. At most BATCH_TASKS_MAX deep. */
async function holdAll<T>(
  lock: KeyedLock,
  [first, ...others]: readonly string[],
  work: () => Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  if (first === undefined) return work();
  return lock.run(first, () => holdAll(lock, others, work, signal), signal);
}
