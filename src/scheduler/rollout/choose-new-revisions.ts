import { assert } from "../../lib/assert.ts";
import type { RolloutFacts } from "./rollout-input.ts";

/** The active rollout, as far as the revisions of new sets depend on it. */
export interface NewSetsRollout {
  state: RolloutFacts["state"];
  /** Failed sets paused it, and not a user. */
  isPausedByFailure: boolean;
  fromRevision: number;
  toRevision: number;
  /**
   * `countWantedSets` for the new size of the service. 0 if the step selects by zone, label or id,
   * because the host of a new set is not known.
   */
  wantedAtTarget: number;
  /** Replicas at the target revision, and those whose update has begun. */
  atTarget: number;
}

/**
 * Chooses the revisions of `added` new sets: of a scale-out, a restored volume, or replacements of
 * sets on a lost host. The share of the target revision follows the step of the rollout. Its sets
 * come first.
 *
 * After a failure, and while a rollout returns, new sets get the earlier revision, because the
 * target may be broken. Pure.
 */
export function chooseNewRevisions(
  added: number,
  rollout: NewSetsRollout,
): { revision: number; count: number }[] {
  assert(Number.isInteger(added) && added >= 0, "a number of sets is not negative");
  const { state, isPausedByFailure, wantedAtTarget, atTarget } = rollout;
  const isReturning = state === "rolling-back" || (state === "paused" && isPausedByFailure);
  const missing = isReturning ? 0 : Math.max(0, wantedAtTarget - atTarget);
  const toTarget = Math.min(added, missing);
  return [
    { revision: rollout.toRevision, count: toTarget },
    { revision: rollout.fromRevision, count: added - toTarget },
  ].filter(({ count }) => count > 0);
}
