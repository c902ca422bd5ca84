import { callBackoff, computeBackoffMs } from "../base/backoff.ts";
import type { Clock } from "../base/clock.ts";

/**
 * While a change is in progress, observations are at least this far apart. Most changes end sooner
 * and cause an observation anyway.
 */
const GAP_MS_DURING_CHANGES = 1_000;

/** When a set is observed again. */
export class ObservationSchedule {
  readonly #clock: Clock;
  readonly #random: () => number;
  #observedAtMs = 0;
  #failuresInRow = 0;
  #forcedAtMs = 0;

  constructor({ clock, random }: { clock: Clock; random: () => number }) {
    this.#clock = clock;
    this.#random = random;
  }

  /** Records an observation. An incomplete one is repeated as a failed one is. */
  noteObserved({ isComplete }: { isComplete: boolean }): void {
    this.#observedAtMs = this.#clock.nowMs();
    this.#failuresInRow = isComplete ? 0 : this.#failuresInRow + 1;
  }

  noteFailed(): void {
    this.#failuresInRow++;
  }

  /**
   * True at most once per backoff. Stops and removals need no observation. Without this bound, they
   * would repeat at the pace of failing observations.
   */
  tryBeginWithoutObservation(): boolean {
    if (this.#clock.nowMs() < this.#forcedAtMs) return false;
    this.#forcedAtMs = this.computeRetryAtMs();
    return true;
  }

  /** Ends the backoff, because the daemon answers again. */
  reset(): void {
    this.#failuresInRow = 0;
  }

  /** The time of the next observation after a failed or incomplete one; Infinity otherwise. */
  computeRetryAtMs(): number {
    if (this.#failuresInRow === 0) return Infinity;
    const waitMs = computeBackoffMs(callBackoff, this.#failuresInRow, this.#random());
    return this.#clock.nowMs() + waitMs;
  }

  /**
   * The earliest time of an observation during changes, of which the newest began at
   * `newestChangeAtMs`.
   */
  nextDuringChangesMs(newestChangeAtMs: number): number {
    return Math.max(newestChangeAtMs, this.#observedAtMs) + GAP_MS_DURING_CHANGES;
  }
}
