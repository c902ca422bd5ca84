import type { Clock } from "./clock.ts";

/** A bell that one loop waits for. A ring while nobody waits is kept for the next wait; many are one. */
export class Wakeup {
  readonly #clock: Clock;
  #isRung = false;
  #wake: (() => void) | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  ring(): void {
    this.#isRung = true;
    this.#wake?.();
  }

  /** Resolves at the next ring with true, or with false after `timeoutMs` or when aborted. */
  async wait(timeoutMs: number, signal: AbortSignal): Promise<boolean> {
    if (!this.#isRung && !signal.aborted && timeoutMs > 0) {
      await new Promise<void>((resolve) => {
        const end = () => {
          cancel();
          signal.removeEventListener("abort", end);
          this.#wake = undefined;
          resolve();
        };
        const cancel = this.#clock.after(timeoutMs, end);
        signal.addEventListener("abort", end, { once: true });
        this.#wake = end;
      });
    }
    const wasRung = this.#isRung;
    this.#isRung = false;
    return wasRung;
  }
}
