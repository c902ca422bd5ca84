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

  /** A task runs or waits. If not, a `run` in the same turn of the event loop begins at once. */
  isHeld(key: string): boolean {
    return this.#lines.has(key);
  }

  /** How many tasks wait behind the one that runs. */
  countWaiting(key: string): number {
    return Math.max(0, (this.#lines.get(key)?.tasks ?? 0) - 1);
  }

  async run<T>(key: string, task: () => Promise<T>): Promise<T> {
    const line = this.#lines.get(key) ?? { tail: Promise.resolve(), tasks: 0 };
    this.#lines.set(key, line);
    line.tasks += 1;
    const result = line.tail.then(task);
    line.tail = result.then(
      () => undefined,
      () => undefined,
    );
    try {
      return await result;
    } finally {
      line.tasks -= 1;
      if (line.tasks === 0) this.#lines.delete(key);
    }
  }
}
