import { onAbort } from "../../lib/async/abort.ts";
import type { Clock } from "./clock.ts";

/**
 * A notification for one loop. A notification without a waiter is stored for the next wait; several
 * count as one.
 */
export class Wakeup {
  readonly #clock: Clock;
  #isNotified = false;
  #wake: (() => void) | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  notify(): void {
    this.#isNotified = true;
    this.#wake?.();
  }

  /**
   * Resolves with true at the next notification, or with false after `timeoutMs` or when aborted.
   */
  async wait(timeoutMs: number, signal: AbortSignal): Promise<boolean> {
    if (!this.#isNotified && !signal.aborted && timeoutMs > 0) {
      await new Promise<void>((resolve) => {
        const end = () => {
          cancel();
          unlisten();
          this.#wake = undefined;
          resolve();
        };
        const cancel = this.#clock.after(timeoutMs, end);
        const unlisten = onAbort(signal, end);
        this.#wake = end;
      });
    }
    const wasNotified = this.#isNotified;
    this.#isNotified = false;
    return wasNotified;
  }
}
