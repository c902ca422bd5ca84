import type { Sync } from "../../contracts/agent-protocol/sync.ts";
import type { Log } from "../../lib/log.ts";
import { isAborted } from "../../lib/async/abort.ts";
import type { AgentLimits } from "../base/agent-limits.ts";
import { type Clock, sleep } from "../base/clock.ts";
import type { SyncAnswer } from "../ports/control-plane.ts";
import { waitBeforeRetry } from "../reporting/retry-delay.ts";

/** A wait after a stale answer, so that the agent does not call a faulty API in a tight loop. */
const STALE_ANSWER_WAIT_MS = 5_000;
const SHORT_ANSWER_MS = 50;
const SHORT_ANSWER_WAIT_MS = 250;

interface PullOptions {
  clock: Clock;
  log: Log;
  /** In [0, 1). */
  random: () => number;
  limits: Pick<AgentLimits, "waitMs" | "usageIntervalMs" | "fullIntervalMs">;
  poll: (parts: Partial<Sync>) => Promise<SyncAnswer>;
  accept: (answer: SyncAnswer) => Promise<"changed" | "unchanged" | "stale">;
  /** Sets on this host that the last full answer does not list. */
  listUnlisted: () => string[];
  /** Called with the reported unlisted sets after each accepted answer to a full sync. */
  onFullAnswer: (unlistedSets: readonly string[]) => void;
  /** The shortest pause after a failed sync, given a random number. */
  pauseMs: (random: number) => number;
}

/**
 * Pulls the desired sets, and waits for changes of them, until `signal` is aborted. It requests all
 * sets at its start and periodically, and whenever other sets are unlisted than it has reported.
 */
export async function pullOrders(options: PullOptions, signal: AbortSignal): Promise<void> {
  const { clock, limits, accept, poll, listUnlisted, onFullAnswer } = options;
  // Ends before the next usage report is due, so that the next long poll includes the report.
  const longWaitMs = Math.min(limits.waitMs, Math.ceil(limits.usageIntervalMs * 0.9));
  let failuresInRow = 0;
  let fullAtMs = Number.NEGATIVE_INFINITY;
  let reportedUnlisted = "";
  /** The API is of a release that reads unlisted sets. */
  let readsUnlisted = false;
  while (!signal.aborted) {
    const unlistedSets = listUnlisted();
    const unlisted = unlistedSets.join();
    const startedAtMs = clock.nowMs();
    const full = startedAtMs >= fullAtMs || unlisted !== reportedUnlisted;
    try {
      const reported = full && readsUnlisted ? { unlistedSets } : {};
      const answer = await poll({ full, waitMs: full ? 0 : longWaitMs, ...reported });
      const outcome = await accept(answer);
      failuresInRow = 0;
      const endedAtMs = clock.nowMs();
      if (outcome === "stale") await sleep(clock, STALE_ANSWER_WAIT_MS, signal);
      else if (full) {
        fullAtMs = endedAtMs + limits.fullIntervalMs;
        reportedUnlisted = unlisted;
        readsUnlisted = answer.setsToRemove !== undefined;
        onFullAnswer(reported.unlistedSets ?? []);
      } else if (outcome === "unchanged" && endedAtMs - startedAtMs < SHORT_ANSWER_MS) {
        await sleep(clock, SHORT_ANSWER_WAIT_MS, signal);
      }
    } catch (error) {
      if (isAborted(signal)) return;
      // Perhaps another API answers now, which refuses them.
      readsUnlisted = false;
      failuresInRow++;
      await waitBeforeRetry({ ...options, loop: "pull" }, error, failuresInRow, signal);
    }
  }
}
