import type { Clock } from "../base/clock.ts";

/**
 * The agents of a fleet repeat their reports within this time after a failover, each at a random
 * moment. It is also the shortest time between two repeats of one agent.
 */
const REPEAT_SPREAD_MS = 60_000;

/**
 * Notices when another database server answers the syncs. After a failover or a restore it may lack
 * reports that the previous server has confirmed, so the agent repeats all of them once. While two
 * servers answer in turn, the agent repeats them at most once in 60 s.
 */
export class DatabaseChanges {
  readonly #clock: Clock;
  readonly #random: () => number;
  #epoch: string | undefined;
  #dueAtMs = Number.POSITIVE_INFINITY;
  #repeatedAtMs = Number.NEGATIVE_INFINITY;

  /** @param random in [0, 1) */
  constructor(clock: Clock, random: () => number) {
    this.#clock = clock;
    this.#random = random;
  }

  /** Zero or less means now. */
  get dueInMs(): number {
    return this.#dueAtMs - this.#clock.nowMs();
  }

  /** Compares the epoch of an answer with the one before. An older API names no epoch. */
  note(epoch: string | undefined): void {
    if (epoch === undefined) return;
    const hasChanged = this.#epoch !== undefined && this.#epoch !== epoch;
    this.#epoch = epoch;
    if (!hasChanged || this.#dueAtMs !== Number.POSITIVE_INFINITY) return;
    const earliestMs = Math.max(this.#clock.nowMs(), this.#repeatedAtMs + REPEAT_SPREAD_MS);
    this.#dueAtMs = earliestMs + this.#random() * REPEAT_SPREAD_MS;
  }

  /** Returns whether a repeat is due, at most once per change. */
  takeIfDue(): boolean {
    if (this.dueInMs > 0) return false;
    this.#dueAtMs = Number.POSITIVE_INFINITY;
    this.#repeatedAtMs = this.#clock.nowMs();
    return true;
  }
}
