import type { Clock } from "../../../src/agent/base/clock.ts";

interface Timer {
  atMs: number;
  order: number;
  callback: () => void;
}

/** A clock that advances only in `pass`, as fast as the work allows. */
export class VirtualClock implements Clock {
  #nowMs = 5_000;
  #wallOffsetMs = Date.parse("2026-01-01T00:00:00Z");
  #lastOrder = 0;
  readonly #timers = new Set<Timer>();

  nowMs(): number {
    return this.#nowMs;
  }

  wallMs(): number {
    return this.#nowMs + this.#wallOffsetMs;
  }

  /** Sets the wall clock forward, or back by a negative number. Timers do not notice. */
  stepWall(byMs: number): void {
    this.#wallOffsetMs += byMs;
  }

  after(delayMs: number, callback: () => void): () => void {
    this.#lastOrder++;
    const atMs = this.#nowMs + Math.max(0, delayMs);
    const timer = { atMs, order: this.#lastOrder, callback };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  /** Advances by `durationMs` and runs the timers that are due, in order. */
  async pass(durationMs: number): Promise<void> {
    const endsAtMs = this.#nowMs + durationMs;
    await settle();
    for (let due = this.#next(); due && due.atMs <= endsAtMs; due = this.#next()) {
      this.#timers.delete(due);
      this.#nowMs = Math.max(this.#nowMs, due.atMs);
      due.callback();
      await settle();
    }
    this.#nowMs = endsAtMs;
  }

  #next(): Timer | undefined {
    let first: Timer | undefined;
    for (const timer of this.#timers) {
      if (!first || timer.atMs < first.atMs) first = timer;
      else if (timer.atMs === first.atMs && timer.order < first.order) first = timer;
    }
    return first;
  }
}

/** Resolves when every promise that can continue has continued. */
function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Random numbers in [0, 1), equal for equal seeds (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
