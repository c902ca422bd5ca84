import type { ObservedSet } from "../../contracts/agent-protocol/observed-set.ts";
import type { Clock } from "../base/clock.ts";

/** No call is in flight for longer: client and API both time out earlier. */
const IN_FLIGHT_MS_MAX = 40_000;

interface Entry {
  report: ObservedSet;
  text: string;
}

/** Reports in flight: the entries at the time of sending. */
export interface ReportBatch {
  reports: ObservedSet[];
  chars: number;
  entries: ReadonlyMap<string, Entry>;
}

/**
 * The queue of reports: the latest report of each set, until an answer confirms it. A report that
 * equals the previous one is dropped.
 */
export class ReportQueue {
  readonly #latest = new Map<string, Entry>();
  readonly #waiting = new Map<string, Entry>();
  /** Sets with an unconfirmed report, and since when. The report may arrive late or never. */
  readonly #unconfirmed = new Map<string, number>();
  readonly #clock: Clock;
  readonly #startedAtMs: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#startedAtMs = clock.nowMs();
  }

  get isEmpty(): boolean {
    return this.#waiting.size === 0;
  }

  /** Queues a report. Returns false if it equals the previous one. */
  put(report: ObservedSet): boolean {
    const text = JSON.stringify(report);
    if (this.#latest.get(report.setId)?.text === text) return false;
    const entry = { report, text };
    this.#latest.set(report.setId, entry);
    this.#waiting.set(report.setId, entry);
    // The last reports of the previous agent may still be in flight.
    const nowMs = this.#clock.nowMs();
    if (nowMs - this.#startedAtMs < IN_FLIGHT_MS_MAX) this.#unconfirmed.set(report.setId, nowMs);
    return true;
  }

  /**
   * Returns the next reports to send, oldest first. The batch has at most `reportsMax` reports and
   * `charsMax` characters, but at least one report. Entries stay queued until `acknowledge`.
   */
  take(reportsMax: number, charsMax: number): ReportBatch {
    const entries = new Map<string, Entry>();
    let chars = 0;
    for (const [setId, entry] of this.#waiting) {
      const nextChars = chars + entry.text.length;
      if (entries.size >= reportsMax || (entries.size > 0 && nextChars > charsMax)) break;
      chars = nextChars;
      entries.set(setId, entry);
    }
    return { reports: [...entries.values()].map(({ report }) => report), chars, entries };
  }

  /** Confirms a batch. Sets that changed since then stay queued. */
  acknowledge(batch: ReportBatch): void {
    for (const [setId, entry] of batch.entries) {
      if (this.#waiting.get(setId) === entry) this.#waiting.delete(setId);
    }
  }

  /**
   * Marks a batch without an answer. Its reports stay queued. The lost call may still arrive after
   * later ones, so the queue resends the same sets once it no longer can.
   */
  markUnconfirmed(batch: ReportBatch): void {
    for (const setId of batch.entries.keys()) this.#unconfirmed.set(setId, this.#clock.nowMs());
  }

  /**
   * Queues unconfirmed reports again, once their lost call can no longer arrive. Call it
   * periodically.
   */
  resendUnconfirmed(): void {
    const untilMs = this.#clock.nowMs() - IN_FLIGHT_MS_MAX;
    for (const [setId, sinceMs] of this.#unconfirmed) {
      const entry = this.#latest.get(setId);
      if (sinceMs > untilMs || !entry) continue;
      this.#unconfirmed.delete(setId);
      this.#waiting.set(setId, entry);
    }
  }

  /** Queues the latest report of each set again. */
  resendAll(): void {
    for (const [setId, entry] of this.#latest) this.#waiting.set(setId, entry);
  }

  /** Accepts the next report of the set even if it equals the previous one. */
  forceResend(setId: string): void {
    this.#latest.delete(setId);
  }

  /** Drops all state of a set. */
  forget(setId: string): void {
    this.#latest.delete(setId);
    this.#waiting.delete(setId);
    this.#unconfirmed.delete(setId);
  }
}
