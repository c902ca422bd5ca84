import type { SyncResult } from "../../contracts/agent-protocol/sync.ts";
import type { Reason } from "../../contracts/common/primitives.ts";
import type { Log } from "../../lib/log.ts";
import type { Clock } from "../base/clock.ts";

/** A host with an NTP client differs by less. */
const SKEW_MS_MAX = 60_000;

/**
 * Compares the host's wall clock with the database's, so that an operator sees a wrong clock. No
 * decision depends on the result.
 */
export class ClockSkew {
  readonly #clock: Clock;
  readonly #log: Log;
  #reason: Reason | undefined;

  constructor(clock: Clock, log: Log) {
    this.#clock = clock;
    this.#log = log;
  }

  /** Begins a sync. The returned function takes its answer. */
  beginSync(): (answer: Pick<SyncResult, "databaseTime">) => void {
    const sentAtMs = this.#clock.wallMs();
    return ({ databaseTime }) => {
      if (databaseTime === undefined) return;
      const databaseMs = Date.parse(databaseTime);
      // The database read its clock at an unknown time between the request and the answer.
      const aheadMs = sentAtMs - databaseMs;
      const behindMs = databaseMs - this.#clock.wallMs();
      const wasRight = this.#reason === undefined;
      this.#reason = describeSkew(aheadMs, behindMs);
      if (wasRight && this.#reason)
        this.#log.warn({ aheadMs, behindMs }, "the host's clock is wrong");
    };
  }

  /** The reason to report; undefined while the clock is right or unknown. */
  get reason(): Reason | undefined {
    return this.#reason;
  }
}

function describeSkew(aheadMs: number, behindMs: number): Reason | undefined {
  if (Math.max(aheadMs, behindMs) <= SKEW_MS_MAX) return undefined;
  const direction = aheadMs > behindMs ? "ahead of" : "behind";
  const seconds = Math.round(Math.max(aheadMs, behindMs) / 1_000);
  const text = `The clock of the host is ${seconds} s ${direction} the clock of the database. Correct it, for example with an NTP client.`;
  return { code: "clock-wrong", text };
}
