import type { ProblemCode } from "../../contracts/common/problems.ts";
import type { Log } from "../../lib/log.ts";
import type { AgentLimits } from "../base/agent-limits.ts";
import { computeBackoffMs } from "../base/backoff.ts";
import type { Clock } from "../base/clock.ts";
import { RefusedError } from "../ports/control-plane.ts";

/**
 * - refused: the last answers had a status such as 401, perhaps from a proxy.
 * - rejected: Berth itself has refused this agent for minutes.
 * - deleted: Berth itself has stated for some time that an operator deleted the host.
 */
export type ControlPlaneStatus = "accepted" | "refused" | "rejected" | "deleted";

/** Fewer answers prove nothing, however long the pause between them was. */
const ANSWERS_MIN = 3;
const hostDeleted: ProblemCode = "host-deleted";

export interface RefusalsOptions {
  clock: Clock;
  log: Log;
  limits: Pick<AgentLimits, "rejectedAfterMs" | "deletedAfterMs" | "rejectedWaitMs">;
  /** The state file says that the host was deleted. */
  wasDeleted: boolean;
  /** Called when the host turns out to be deleted. */
  onDeleted: () => void;
}

/**
 * Decides whether Berth rejects this agent (I17). No status ends the agent: it continues to manage
 * its sets, and asks again. Only answers that Berth has signed count, and only several of them over
 * some time. Any accepted sync ends a rejection and a deletion.
 */
export class Refusals {
  readonly #options: RefusalsOptions;
  readonly #refused = new RepeatedAnswer();
  readonly #deleted = new RepeatedAnswer();
  #status: ControlPlaneStatus;

  constructor(options: RefusalsOptions) {
    this.#options = options;
    this.#status = options.wasDeleted ? "deleted" : "accepted";
  }

  get status(): ControlPlaneStatus {
    return this.#status;
  }

  /** A rejected agent asks seldom. Other failures have their own backoff. */
  pauseMs(random: number): number {
    const isFinal = this.#status === "rejected" || this.#status === "deleted";
    const { rejectedWaitMs: waitMs } = this.#options.limits;
    return isFinal ? computeBackoffMs({ minMs: waitMs, maxMs: waitMs }, 1, random) : 0;
  }

  /** Notes the error of a sync. Errors other than refusals change nothing. */
  noteFailed(error: unknown): void {
    if (!(error instanceof RefusedError)) return;
    const { clock, limits, log } = this.#options;
    const { provenCode: code } = error;
    const nowMs = clock.nowMs();
    if (this.#status === "accepted") this.#status = "refused";
    if (code === undefined) return;
    this.#refused.note(nowMs);
    if (code === hostDeleted) this.#deleted.note(nowMs);
    else this.#deleted.clear();
    if (this.#status === "deleted") return;
    if (this.#deleted.hasLasted(limits.deletedAfterMs, nowMs)) {
      this.#status = "deleted";
      log.error({ err: error, code }, "an operator deleted this host: the agent stops its sets");
      this.#options.onDeleted();
    } else if (
      this.#status === "refused" &&
      this.#refused.hasLasted(limits.rejectedAfterMs, nowMs)
    ) {
      this.#status = "rejected";
      const remedy =
        "Check the database of the API. If a restored database does not know this host, see the runbook of unhealthy hosts.";
      log.error(
        { err: error, code, remedy },
        "Berth rejects this host: the agent continues to manage its sets",
      );
    }
  }

  /** Notes a sync that Berth accepted. */
  noteAccepted(): void {
    const before = this.#status;
    this.#status = "accepted";
    this.#refused.clear();
    this.#deleted.clear();
    if (before === "rejected" || before === "deleted")
      this.#options.log.warn({ before }, "Berth accepts this host again");
  }
}

/** The same answer several times in a row. */
class RepeatedAnswer {
  #count = 0;
  #sinceMs = 0;

  note(nowMs: number): void {
    if (this.#count === 0) this.#sinceMs = nowMs;
    this.#count++;
  }

  clear(): void {
    this.#count = 0;
  }

  hasLasted(durationMs: number, nowMs: number): boolean {
    return this.#count >= ANSWERS_MIN && nowMs - this.#sinceMs >= durationMs;
  }
}
