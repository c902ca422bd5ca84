import type { Clock } from "../base/clock.ts";

/** One timer, which calls back once at the time that was set last. */
export class Alarm {
  readonly #clock: Clock;
  readonly #callback: () => void;
  #atMs = Infinity;
  #cancel: (() => void) | undefined;

  constructor(clock: Clock, callback: () => void) {
    this.#clock = clock;
    this.#callback = callback;
  }

  /** Sets the time by the monotonic clock. Infinity sets none. */
  set(atMs: number): void {
    this.cancel();
    if (!Number.isFinite(atMs)) return;
    this.#atMs = atMs;
    this.#cancel = this.#clock.after(atMs - this.#clock.nowMs(), () => {
      this.#atMs = Infinity;
      this.#callback();
    });
  }

  /** Sets an earlier time, if this one is earlier. */
  advanceTo(atMs: number): void {
    if (atMs < this.#atMs) this.set(atMs);
  }

  cancel(): void {
    this.#cancel?.();
    this.#cancel = undefined;
    this.#atMs = Infinity;
  }
}
