import type { ObservedSet } from "../contracts/agent-protocol/protocol.ts";
import type { Clock } from "./clock.ts";

/** No call is under way for longer: neither the client nor the API waits that long for the other. */
const DOUBT_MS = 40_000;

interface Entry {
  report: ObservedSet;
  text: string;
}

/** What is on its way: the entries as they were when they were sent. */
export interface ReportBatch {
  reports: ObservedSet[];
  entries: ReadonlyMap<string, Entry>;
}

/**
 * What has to be reported: of each set only the latest, and again until an answer says that it has arrived. A report
 * that says what the last one said is none.
 */
export class ReportQueue {
  readonly #latest = new Map<string, Entry>();
  readonly #waiting = new Map<string, Entry>();
  /** Sets with a report of which nobody knows whether, or when, it arrives; and since when that is so. */
  readonly #doubtful = new Map<string, number>();
  readonly #clock: Clock;
  readonly #beganAtMs: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#beganAtMs = clock.nowMs();
  }

  get isEmpty(): boolean {
    return this.#waiting.size === 0;
  }

  /** True when there is something new to say. */
  put(report: ObservedSet): boolean {
    const text = JSON.stringify(report);
    if (this.#latest.get(report.setId)?.text === text) return false;
    const entry = { report, text };
    this.#latest.set(report.setId, entry);
    this.#waiting.set(report.setId, entry);
    // The last reports of the agent before this one may still be on their way.
    const nowMs = this.#clock.nowMs();
    if (nowMs - this.#beganAtMs < DOUBT_MS) this.#doubtful.set(report.setId, nowMs);
    return true;
  }

  /** The next reports to send, oldest first: so many, of so many characters together, but one at least. They wait on until they are acknowledged. */
  take(reportsMax: number, charsMax: number): ReportBatch {
    const entries = new Map<string, Entry>();
    let chars = 0;
    for (const [setId, entry] of this.#waiting) {
      chars += entry.text.length;
      if (entries.size >= reportsMax || (entries.size > 0 && chars > charsMax)) break;
      entries.set(setId, entry);
    }
    return { reports: [...entries.values()].map(({ report }) => report), entries };
  }

  /** The batch has arrived. What has changed since goes on waiting. */
  acknowledge(batch: ReportBatch): void {
    for (const [setId, entry] of batch.entries) {
      if (this.#waiting.get(setId) === entry) this.#waiting.delete(setId);
    }
  }

  /**
   * The batch got no answer. It waits on; but as the lost call may yet arrive, after later ones, the same sets are told once
   * more when it no longer can.
   */
  doubt(batch: ReportBatch): void {
    for (const setId of batch.entries.keys()) this.#doubtful.set(setId, this.#clock.nowMs());
  }

  /** To be called from time to time: what was in doubt long enough waits to be sent once more. */
  repeatDoubtful(): void {
    const untilMs = this.#clock.nowMs() - DOUBT_MS;
    for (const [setId, sinceMs] of this.#doubtful) {
      const entry = this.#latest.get(setId);
      if (sinceMs > untilMs || !entry) continue;
      this.#doubtful.delete(setId);
      this.#waiting.set(setId, entry);
    }
  }

  /** The next report of the set is one, whatever the last one said. */
  expectAgain(setId: string): void {
    this.#latest.delete(setId);
  }

  /** The set is nobody's business any more. */
  forget(setId: string): void {
    this.#latest.delete(setId);
    this.#waiting.delete(setId);
    this.#doubtful.delete(setId);
  }
}
