/** Waits for news in this process. */
export class Waiters {
  readonly #waiting = new Set<() => void>();

  /** Resolves when `wakeAll` is called, after `timeoutMs`, or when `signal` aborts. */
  wait(timeoutMs: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const end = (): void => {
        clearTimeout(timer);
        this.#waiting.delete(end);
        signal.removeEventListener("abort", end);
        resolve();
      };
      const timer = setTimeout(end, timeoutMs);
      this.#waiting.add(end);
      signal.addEventListener("abort", end, { once: true });
      if (signal.aborted) end();
    });
  }

  wakeAll(): void {
    for (const wake of this.#waiting) wake();
  }
}
