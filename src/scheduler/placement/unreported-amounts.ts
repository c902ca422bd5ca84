import type { SetState } from "../../contracts/api/sets.ts";
import { dimensions, type Resources } from "./model.ts";

/**
 * After this time in `starting`, a set counts with its measured usage only, like a running set.
 * Two report intervals are 20 s; a set that starts slowly reaches its normal usage within minutes.
 */
export const STARTUP_MS_MAX = 120_000;

/** A set that is booked on a host, at the time of the host's usage report. */
export interface ReportedSet {
  state: SetState;
  /** The booking of the set on this host. */
  booked: Resources;
  /**
   * The part of the host's measurement that belongs to this set. A dimension that the host does not
   * measure per set is 0, which errs on the safe side: the host looks fuller than it is.
   */
  used: Resources;
  /**
   * When the database first received `starting` for this set on this host, by the database's
   * clock. Undefined while the set has not reached that state there.
   */
  startingSinceMs: number | undefined;
}

/**
 * The part of a set's booking that the host's measurement does not contain yet. The sum over the
 * sets of a host is `HostSnapshot.unreported`: the planner adds it to the measured usage.
 *
 * - `placed`, `preparing`, and `starting` for less than STARTUP_MS_MAX: the booking minus the usage
 *   that the host measures for the set. It is not below 0.
 * - `starting` for longer: 0. Otherwise a set that fails repeatedly counts twice, with its usage
 *   and with its whole booking, and blocks the host for other sets.
 * - Every other state: 0, because the measurement contains the set.
 *
 * The release of a set subtracts at most this amount from the sum. A running set subtracts nothing.
 * `nowMs` is the time of the report by the database's clock.
 */
export function unreportedAmounts(set: ReportedSet, nowMs: number): Resources {
  const isStartingUp =
    set.state === "placed" || set.state === "preparing" || set.state === "starting";
  const isSettled =
    set.state === "starting" &&
    set.startingSinceMs !== undefined &&
    nowMs - set.startingSinceMs >= STARTUP_MS_MAX;
  const unreported = { ...noAmounts };
  if (!isStartingUp || isSettled) return unreported;
  for (const dimension of dimensions)
    unreported[dimension] = Math.max(0, set.booked[dimension] - set.used[dimension]);
  return unreported;
}

/** The sum over the sets of a host: see unreportedAmounts. */
export function sumUnreported(sets: Iterable<ReportedSet>, nowMs: number): Resources {
  const sum = { ...noAmounts };
  for (const set of sets) {
    const amounts = unreportedAmounts(set, nowMs);
    for (const dimension of dimensions) sum[dimension] += amounts[dimension];
  }
  return sum;
}

const noAmounts: Resources = { cpuMillis: 0, memoryBytes: 0, volumeBytes: 0, rootfsBytes: 0 };
