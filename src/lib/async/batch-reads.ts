/** Reads the values of these keys, each at the position of its key. */
export type ReadBatch<K, V> = (keys: readonly K[]) => Promise<readonly V[]>;

export interface BatchLimits {
  /** Keys that one call of `read` gets. */
  keysMax: number;
  /** Calls of `read` in flight. Keys that arrive meanwhile share the next call. */
  batchesMax: number;
}

/**
 * Reads single keys in batches. Keys of the same turn of the event loop share one call of `read`.
 * So do keys that arrive while `batchesMax` calls are in flight.
 *
 * A call of `read` starts after the calls of all its callers. So each caller sees everything that
 * was committed before its call. If a call fails, it fails for all of its callers.
 */
export function createBatchedRead<K, V>(
  read: ReadBatch<K, V>,
  { keysMax, batchesMax }: BatchLimits,
): (key: K) => Promise<V> {
  interface Caller {
    key: K;
    resolve: (value: V) => void;
    reject: (error: unknown) => void;
  }
  let waiting: Caller[] = [];
  let inFlight = 0;
  let isScheduled = false;

  const runBatch = async (callers: readonly Caller[]): Promise<void> => {
    inFlight++;
    try {
      const values = await read(callers.map(({ key }) => key));
      callers.forEach(({ resolve }, index) => resolve(values[index] as V));
    } catch (error) {
      for (const { reject } of callers) reject(error);
    } finally {
      inFlight--;
      startBatches();
    }
  };
  const startBatches = (): void => {
    isScheduled = false;
    if (waiting.length === 0 || inFlight >= batchesMax) return;
    const callers = waiting.slice(0, keysMax);
    waiting = waiting.slice(keysMax);
    void runBatch(callers);
    startBatches();
  };
  return (key) =>
    new Promise((resolve, reject) => {
      waiting.push({ key, resolve, reject });
      if (isScheduled || inFlight >= batchesMax) return;
      isScheduled = true;
      setImmediate(startBatches);
    });
}
