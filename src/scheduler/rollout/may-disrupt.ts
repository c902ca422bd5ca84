import type { DisruptionBudget } from "../../contracts/api/disruption-budget.ts";
import { assert } from "../../lib/assert.ts";

/** One service's replicas, counted under the lock of the service. */
export interface ReplicaCounts {
  /** Replicas that the service wants, at most `live`. */
  desired: number;
  /** Replicas that exist. During a scale-in they are more than `desired`. */
  live: number;
  /** Sets that are ready for at least `minReadySeconds`, and that no user or operation stops. */
  available: number;
  /** Replicas that the budget does not expect: never ready so far, or stopped by a user. */
  notExpected: number;
  /** Sets above `desired`: each one replaces another set that still runs. */
  surging: number;
}

/** The number of further disruptions that the budget allows. */
export interface DisruptionAllowance {
  /** Available sets that may become unavailable. */
  unavailable: number;
  /** Replacements that may be created while the replaced sets still run. */
  surge: number;
}

/**
 * How one set is disrupted.
 * replace-first: a replacement becomes ready before the set is removed.
 * stop-first: the set stops before it starts elsewhere.
 * remove: scale-in, without a replacement.
 */
export type DisruptionMode = "replace-first" | "stop-first" | "remove";

export type DisruptionVerdict =
  | { ok: true }
  | { ok: false; reason: "max-surge" | "max-unavailable"; limit: number; inUse: number };

/**
 * Resolves the budget against the counts.
 *
 * A set that was never ready is neither available nor expected: a broken set never uses up the
 * budget of the healthy ones. Percentages are of `desired`. `maxUnavailable` rounds down, to at
 * least 1 set unless it is zero; `maxSurge` rounds up.
 */
export function disruptionAllowance(
  budget: DisruptionBudget,
  counts: ReplicaCounts,
): DisruptionAllowance {
  const { desired, live, available, notExpected, surging } = counts;
  assert(Math.min(desired, available, notExpected, surging) >= 0, "counts are not negative");
  assert(desired <= live, "no more replicas are desired than exist");
  const { maxUnavailable, maxSurge } = resolveLimits(budget, desired);
  return {
    unavailable: Math.max(0, available - (countExpected(counts) - maxUnavailable)),
    surge: Math.max(0, maxSurge - surging),
  };
}

/** The set that one disruption concerns. */
export interface DisruptedSet {
  /** It serves: clients would notice its stop. */
  isAvailable: boolean;
  /**
   * It serves for less than `minReadySeconds`, so the counts do not contain it. It may stop if the
   * other sets meet the budget.
   */
  isYoung?: boolean | undefined;
}

/**
 * Whether one more set may be disrupted (I14): the only path to a voluntary disruption. A set that
 * does not serve may always stop or be removed, because that makes nothing worse.
 *
 * A scale-in removes available sets down to `desired` less the budget. That floor does not depend
 * on the sets that remain, so it is the same in each round. There are always enough sets above it
 * or not available.
 */
export function mayDisrupt(
  budget: DisruptionBudget,
  counts: ReplicaCounts,
  set: DisruptedSet & { mode: DisruptionMode },
): DisruptionVerdict {
  const allowed = disruptionAllowance(budget, counts);
  const limits = resolveLimits(budget, counts.desired);
  if (set.mode === "replace-first") {
    if (allowed.surge > 0) return { ok: true };
    return { ok: false, reason: "max-surge", limit: limits.maxSurge, inUse: counts.surging };
  }
  const limit = limits.maxUnavailable;
  const expected = set.mode === "remove" ? counts.desired : countExpected(counts);
  const serving = counts.available + Number(set.isYoung ?? false);
  if (!set.isAvailable || serving > expected - limit) return { ok: true };
  const inUse = Math.max(0, expected - counts.available);
  return { ok: false, reason: "max-unavailable", limit, inUse };
}

/** Whether the budget ever permits a replacement while the replaced set still runs. */
export function permitsSurge({ maxSurge }: DisruptionBudget): boolean {
  return maxSurge !== 0 && maxSurge !== "0%";
}

/** The counts after `mayDisrupt` has allowed one more set. */
export function countDisruption(
  counts: ReplicaCounts,
  { isAvailable, isYoung, mode }: DisruptedSet & { mode: DisruptionMode },
): ReplicaCounts {
  if (mode === "replace-first") return { ...counts, surging: counts.surging + 1 };
  return {
    ...counts,
    available: Math.max(0, counts.available - (isAvailable && !isYoung ? 1 : 0)),
  };
}

/** Sets that should be available. */
function countExpected({ desired, live, notExpected }: ReplicaCounts): number {
  return Math.max(0, Math.min(desired, live - notExpected));
}

function resolveLimits(
  { maxUnavailable, maxSurge }: DisruptionBudget,
  desired: number,
): { maxUnavailable: number; maxSurge: number } {
  return {
    maxUnavailable:
      typeof maxUnavailable === "number"
        ? maxUnavailable
        : parsePercent(maxUnavailable) === 0
          ? 0
          : Math.max(1, Math.floor((desired * parsePercent(maxUnavailable)) / 100)),
    maxSurge:
      typeof maxSurge === "number" ? maxSurge : Math.ceil((desired * parsePercent(maxSurge)) / 100),
  };
}

/** "25%" is 25. The contract admits whole percentages only. */
function parsePercent(text: string): number {
  const percent = Number(text.slice(0, -1));
  assert(Number.isInteger(percent), `"${text}" is a whole percentage`);
  return percent;
}
