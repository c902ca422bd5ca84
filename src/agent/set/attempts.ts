import type { Reason } from "../../contracts/common/primitives.ts";
import { computeBackoffMs, stepBackoff } from "../base/backoff.ts";
import type { ClockReading } from "../base/clock-reading.ts";
import type { StepFailure } from "../model/step-failure.ts";

/** The agent gives up a set after this many failed starts of one lane in a row. */
export const START_ATTEMPTS_MAX = 3;
/**
 * An unreachable daemon is not the set's fault, but after this long the set should start on another
 * host.
 */
export const UNAVAILABLE_MS_MAX = 60_000;

/** The failed steps of one lane in a row, and the backoff that follows them. */
export interface Attempts {
  failedInRow: number;
  /** The time of the first unanswered call of the daemon in a row. */
  unavailableSinceMs: number | undefined;
  /** The number of unanswered calls in a row. */
  unavailableInRow: number;
  /** The earliest time of the lane's next step. */
  retryAtMs: number;
  /** The lane failed too often, or permanently, before the set has run. */
  gaveUp: boolean;
  failure: Reason | undefined;
  /** The failure is that of an observation, which the next successful one refutes. */
  isOfObservation: boolean;
}

export function newAttempts(): Attempts {
  return {
    failedInRow: 0,
    unavailableSinceMs: undefined,
    unavailableInRow: 0,
    retryAtMs: 0,
    gaveUp: false,
    failure: undefined,
    isOfObservation: false,
  };
}

/**
 * Records a failed step. The next step of the lane waits as `stepBackoff` says (`random` is in
 * [0, 1)).
 *
 * `mayGiveUp`: the set has not run yet and can start on another host. Then the lane gives up after
 * the third failure in a row, or after a permanent failure. It also gives up if the daemon does not
 * answer for a minute.
 */
export function noteFailure(
  attempts: Attempts,
  failure: StepFailure,
  {
    mayGiveUp,
    isOfObservation = false,
    nowMs,
    wallMs,
    random,
  }: ClockReading & { mayGiveUp: boolean; isOfObservation?: boolean; random: number },
): void {
  attempts.failure = { ...failure.reason, at: new Date(wallMs).toISOString() };
  attempts.isOfObservation = isOfObservation;
  if (failure.isUnavailable) {
    attempts.unavailableInRow++;
    attempts.unavailableSinceMs ??= nowMs;
  } else {
    noteAnswered(attempts);
    attempts.failedInRow++;
  }
  const inRow = failure.isUnavailable ? attempts.unavailableInRow : attempts.failedInRow;
  attempts.retryAtMs = nowMs + computeBackoffMs(stepBackoff, inRow, random);
  if (!mayGiveUp) return;
  attempts.gaveUp = failure.isUnavailable
    ? nowMs - (attempts.unavailableSinceMs ?? nowMs) >= UNAVAILABLE_MS_MAX
    : !failure.temporary || attempts.failedInRow >= START_ATTEMPTS_MAX;
}

/** Records that the daemon answered, with success or not. */
export function noteAnswered(attempts: Attempts): void {
  attempts.unavailableSinceMs = undefined;
  attempts.unavailableInRow = 0;
}

/** Records the success of a step, after which the lane needs no backoff. */
export function noteSuccess(attempts: Attempts): void {
  noteAnswered(attempts);
  attempts.failedInRow = 0;
  attempts.retryAtMs = 0;
  attempts.failure = undefined;
}

/** Ends the backoff of a lane that only waited for the daemon. */
export function endDaemonBackoff(attempts: Attempts): void {
  if (attempts.unavailableSinceMs !== undefined) attempts.retryAtMs = 0;
}
