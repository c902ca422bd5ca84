import type { Log } from "../../lib/log.ts";
import type { Clock } from "../base/clock.ts";
import { ControlPlaneError } from "../ports/control-plane.ts";

/** Bounds of one report: sets, and characters of their reports. The API accepts 8 MiB. */
const REPORTS_MAX = 1_000;
const CHARS_MAX = 2 ** 20;
/** About the report of one set with several containers. */
const CHARS_MIN = 4 * 2 ** 10;
const STATUS_TOO_LONG = 413;
/** A list cannot be split. While it is too long even alone, it waits for this long. */
const LIST_PAUSE_MS = 600_000;

/** The parts of a report that was sent. */
export interface SentParts {
  /** Characters of the reports of sets. */
  chars: number;
  hasLists: boolean;
  hasUsage: boolean;
}

/**
 * The bounds of a report. When the API or a proxy refuses a report for its size, each report has
 * only one part: sets, measurements, images or volumes. If that is still too long, the number of
 * sets in it halves, down to one set. The bounds remain until the agent ends.
 */
export class ReportBounds {
  readonly reportsMax = REPORTS_MAX;
  readonly #clock: Clock;
  readonly #log: Log;
  #charsMax = CHARS_MAX;
  #isOnePart = false;
  #listsFromMs = Number.NEGATIVE_INFINITY;

  constructor(clock: Clock, log: Log) {
    this.#clock = clock;
    this.#log = log;
  }

  get charsMax(): number {
    return this.#charsMax;
  }

  /** True if a report may have only one part. */
  get isOnePart(): boolean {
    return this.#isOnePart;
  }

  /** False while the list of images or of volumes waits, because it was too long. */
  get mayHaveLists(): boolean {
    return this.#clock.nowMs() >= this.#listsFromMs;
  }

  /** Shrinks the next report if the error says that this one was too long. */
  noteFailed(error: unknown, { chars, hasLists, hasUsage }: SentParts): void {
    if (!(error instanceof ControlPlaneError) || error.status !== STATUS_TOO_LONG) return;
    const wasOnePart = this.#isOnePart;
    this.#isOnePart = true;
    if (!wasOnePart) {
      const remedy = "If a proxy is the cause, let it accept bodies of 8 MiB.";
      this.#log.warn({ remedy }, "a report was too long: the agent sends shorter ones");
    }
    if (chars > 0 && !hasLists && !hasUsage)
      this.#charsMax = Math.max(CHARS_MIN, Math.min(this.#charsMax, chars) / 2);
    if (!wasOnePart || !hasLists) return;
    this.#listsFromMs = this.#clock.nowMs() + LIST_PAUSE_MS;
    this.#log.error(
      {},
      "a list of images or volumes is too long for the proxy: it is not reported",
    );
  }
}
