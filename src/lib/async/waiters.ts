import { onAbort } from "./abort.ts";

/** Waits for news in this process. */
export class Waiters {
  readonly #waiting = new Set<() => void>();

  /** Resolves when `wakeAll` is called, after `timeoutMs`, or when `signal` aborts. */
  wait(timeoutMs: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const end = (): void => {
        clearTimeout(timer);
        this.#waiting.delete(end);
        unlisten();
        resolve();
      };
      const timer = setTimeout(end, timeoutMs);
      this.#waiting.add(end);
      let unlisten = (): void => undefined;
      unlisten = onAbort(signal, end);
    });
  }

  wakeAll(): void {
    for (const wake of this.#waiting) wake();
  }
}
