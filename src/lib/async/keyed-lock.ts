interface Line {
  tail: Promise<void>;
  /** The task that runs and those that wait. */
  tasks: number;
}

/**
 * Runs one task at a time for each key, in the order of the calls. The caller bounds the waiters:
 * see `countWaiting`.
 */
export class KeyedLock {
  readonly #lines = new Map<string, Line>();

  /**
   * Whether a task runs or waits. If not, a `run` in the same turn of the event loop starts
   * immediately.
   */
  isHeld(key: string): boolean {
    return this.#lines.has(key);
  }

  /** Counts the tasks that wait behind the running one. */
  countWaiting(key: string): number {
    return Math.max(0, (this.#lines.get(key)?.tasks ?? 0) - 1);
  }

  /**
   * @param signal removes the task from the queue if it aborts before the task begins. In that case
   * the result rejects with the reason of the signal, and the task never runs.
   */
  async run<T>(key: string, task: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    signal?.throwIfAborted();
    const line = this.#lines.get(key) ?? { tail: Promise.resolve(), tasks: 0 };
    this.#lines.set(key, line);
    line.tasks += 1;
    const dequeue = (): void => {
      line.tasks -= 1;
      if (line.tasks === 0) this.#lines.delete(key);
    };
    const turn = line.tail;
    let onAbort: () => void = () => undefined;
    const aborted = new Promise<never>((_resolve, reject) => {
      onAbort = (): void => {
        dequeue();
        reject(signal?.reason as Error);
      };
    });
    aborted.catch(() => undefined); // the caller has the error, or the task ran
    signal?.addEventListener("abort", onAbort, { once: true });
    const result = turn.then(async () => {
      if (signal?.aborted) return aborted;
      signal?.removeEventListener("abort", onAbort);
      try {
        return await task();
      } finally {
        dequeue();
      }
    });
    line.tail = result.then(
      () => undefined,
      () => undefined,
    );
    return await (signal ? Promise.race([result, aborted]) : result);
  }
}
