import type { RolloutStrategy } from "../../contracts/api/rollouts.ts";
import type { OpenRecord, RolloutInput, UnhealthySet } from "./rollout-input.ts";

/**
 * Why a set fails.
 * not-ready: it missed the progress deadline. unready: it was ready before. crash-loop: its
 * containers restart. gave-up: its agent no longer tries. images: its host cannot get them.
 */
export interface SetFailure {
  setId: string;
  cause: "not-ready" | "unready" | "crash-loop" | "gave-up" | "images";
  /** The seconds of the limit that the set exceeded, or the number of restarts. 0 without one. */
  limit: number;
}

/**
 * The state of one set's update.
 * lost: the set was deleted, for example with its host; this proves nothing about its revision.
 * canceled: a user stopped the set, or another change ended the operation.
 * waiting: time changes the verdict at `nextMs`, which is Infinity if only a report can.
 */
export type SetVerdict =
  | { outcome: "done" | "lost" | "canceled" }
  | { outcome: "failed"; failure: SetFailure }
  | { outcome: "waiting"; nextMs: number };

type Limits = Pick<RolloutInput, "nowMs"> & {
  strategy: RolloutStrategy;
  minReadySeconds: number;
  /** As in `RolloutFacts`. */
  stepBeganAtMs: number;
};

/**
 * Judges a set whose update the rollout has begun. Pure.
 *
 * It is done once its operation has ended and it is ready for `minReadySeconds`. While its host is
 * not ready, no time passes for it: a lost host is never a failure of the revision. No time passes
 * either while the operation waits for budget or capacity.
 *
 * A set that is ready only from time to time fails too: it has to become ready before the progress
 * deadline, and stay so.
 */
export function judgeRecord(record: OpenRecord, limits: Limits): SetVerdict {
  const { updated, operation, beganAtMs } = record;
  if (updated.isDeleted) return { outcome: "lost" };
  if (record.isStopped) return { outcome: "canceled" };
  if (operation === undefined && record.at !== record.direction) return { outcome: "canceled" };
  if (beganAtMs === undefined || updated.hostReadySinceMs === undefined) return untilReport;
  const { nowMs, strategy, minReadySeconds } = limits;
  const fail = (cause: SetFailure["cause"], limit = 0): SetVerdict => ({
    outcome: "failed",
    failure: { setId: record.setId, cause, limit },
  });
  const beganMs = Math.max(beganAtMs, updated.hostReadySinceMs);
  const deadlineMs = beganMs + strategy.progressDeadlineSeconds * 1_000;
  if (!updated.isReady) {
    if (updated.state === "failed") return fail("gave-up");
    if (updated.restarts >= Math.max(1, strategy.restartsMax))
      return fail("crash-loop", updated.restarts);
    if (record.images.state === "failed") return fail("images");
    const unreadyMs =
      updated.wasReady && updated.unreadySinceMs !== undefined && updated.unreadySinceMs >= beganMs
        ? updated.unreadySinceMs + strategy.unreadySeconds * 1_000
        : Infinity;
    if (nowMs >= unreadyMs) return fail("unready", strategy.unreadySeconds);
    if (nowMs >= deadlineMs) return fail("not-ready", strategy.progressDeadlineSeconds);
    return { outcome: "waiting", nextMs: Math.min(unreadyMs, deadlineMs) };
  }
  // The order was stored, and the host has not reported the result yet.
  if (updated.readySinceMs === undefined) return untilReport;
  if (updated.readySinceMs > deadlineMs) return fail("not-ready", strategy.progressDeadlineSeconds);
  if (operation !== undefined) return untilReport;
  const doneMs = updated.readySinceMs + minReadySeconds * 1_000;
  return nowMs >= doneMs ? { outcome: "done" } : { outcome: "waiting", nextMs: doneMs };
}

/**
 * Judges a set at the target whose update has ended, or that the service created with the target
 * revision. Pure. `done` never occurs: the set is not available.
 *
 * If it became unready in this step, while its host was ready all the time, it fails after
 * `unreadySeconds`. Otherwise it has until the progress deadline: it was never ready, its host has
 * returned, or a user has resumed the rollout.
 */
export function judgeUnhealthySet(set: UnhealthySet, limits: Limits): SetVerdict {
  const { strategy, nowMs, minReadySeconds } = limits;
  if (set.hostReadySinceMs === undefined) return untilReport;
  if (set.readySinceMs !== undefined)
    return { outcome: "waiting", nextMs: set.readySinceMs + minReadySeconds * 1_000 };
  const sinceMs = Math.max(limits.stepBeganAtMs, set.hostReadySinceMs);
  const { wasReady, unreadySinceMs } = set;
  const becameUnready = wasReady && unreadySinceMs !== undefined && unreadySinceMs >= sinceMs;
  const [beganMs, seconds] = becameUnready
    ? [unreadySinceMs, strategy.unreadySeconds]
    : [Math.max(sinceMs, set.placedAtMs), strategy.progressDeadlineSeconds];
  const failedMs = beganMs + seconds * 1_000;
  if (nowMs < failedMs) return { outcome: "waiting", nextMs: failedMs };
  const cause = becameUnready ? "unready" : "not-ready";
  return { outcome: "failed", failure: { setId: set.setId, cause, limit: seconds } };
}

const untilReport: SetVerdict = { outcome: "waiting", nextMs: Infinity };

/** All verdicts of a round. */
export interface Judgement {
  /** Records in the order of the input, without those that the round redirects. */
  records: readonly { record: OpenRecord; verdict: SetVerdict }[];
  failures: readonly SetFailure[];
  /** The earliest time at which a verdict changes without a report. */
  nextMs: number;
}

/**
 * Judges all sets of a rollout. While it returns, only sets that return are judged: the target may
 * be broken, and its sets are about to leave it. A restart has nothing to return to.
 */
export function judgeSets(input: RolloutInput): Judgement {
  const { rollout, nowMs } = input;
  const limits = {
    nowMs,
    strategy: rollout.strategy,
    minReadySeconds: input.budget.minReadySeconds,
    stepBeganAtMs: rollout.stepBeganAtMs,
  };
  const returns = rollout.state === "rolling-back" && rollout.kind === "update";
  const records = input.open
    .filter(({ direction }) => !returns || direction === "from")
    .map((record) => ({ record, verdict: judgeRecord(record, limits) }));
  const others = returns ? [] : input.unhealthy.map((set) => judgeUnhealthySet(set, limits));
  const verdicts = [...records.map(({ verdict }) => verdict), ...others];
  return {
    records,
    failures: verdicts.flatMap((verdict) =>
      verdict.outcome === "failed" ? [verdict.failure] : [],
    ),
    nextMs: Math.min(
      ...verdicts.map((verdict) => (verdict.outcome === "waiting" ? verdict.nextMs : Infinity)),
    ),
  };
}
