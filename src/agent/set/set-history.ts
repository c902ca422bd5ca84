import type { Reason } from "../../contracts/common/primitives.ts";
import type { DesiredSetState } from "../../contracts/api/sets.ts";
import { computeBackoffMs, stepBackoff } from "../base/backoff.ts";
import type { ClockReading } from "../base/clock.ts";
import {
  changeContainer,
  type ContainerHistory,
  noteContainer,
  noteRuns,
} from "./container-history.ts";
import { INFRA_CONTAINER } from "../model/container-names.ts";
import type { LocalSetSpec, ObservedLocalSet } from "../model/local-set.ts";
import { newPreparationHistory, type PreparationHistory } from "./preparations.ts";
import { newResizeHistory, type ResizeHistory } from "./resize-history.ts";
import { areLimitsApplied } from "../model/set-limits.ts";
import type { ReportedState } from "../model/set-state.ts";
import { specHash } from "../model/spec-hash.ts";
import type { StepFailure } from "../model/step-failure.ts";

/**
 * The agent's history of a set between observations: attempts, backoffs, health and restarts. Most
 * of it is lost with the agent and rebuilt from observations. So it affects only the timing of
 * steps, not their result.
 *
 * The state file stores the facts that no observation shows (persisted-history.ts). They are: the
 * set has run, the agent stopped it for its disk usage, and counters for users.
 */

/** The agent gives up a set after this many failed starts in a row. */
export const START_ATTEMPTS_MAX = 3;
/**
 * An unreachable daemon is not the set's fault, but after this long the set should start on another
 * host.
 */
export const UNAVAILABLE_MS_MAX = 60_000;

/** The desired state of a set, as the agent stores it. */
export interface DesiredLocalSet extends LocalSetSpec {
  desired: DesiredSetState;
}

/** The set's containers exceed the `rootfs` of its template. */
export interface OverRootfs {
  reason: Reason;
  usedBytes: number;
  /** The agent stopped the set for that. It stays stopped until its containers are replaced. */
  isStopped: boolean;
  /** The containers concerned (see `computeSpecKey`). */
  specKey: string;
}

export interface SetHistory {
  /** The generation of `state` and of the attempts. */
  generation: number | undefined;
  state: ReportedState | undefined;
  /** The spec that `hasRun` refers to. */
  specKey: string | undefined;
  /** This spec has run. From then on the agent restarts the set here and never gives it up. */
  hasRun: boolean;
  failedAttempts: number;
  /**
   * The time of the first, and the number of all, consecutive calls that the daemon did not answer.
   */
  unavailableSinceMs: number | undefined;
  unavailableInRow: number;
  /** The earliest time of the next step. */
  retryAtMs: number;
  gaveUp: boolean;
  failure: Reason | undefined;
  resize: ResizeHistory;
  preparations: PreparationHistory;
  overRootfs: OverRootfs | undefined;
  /** The last observed run of infra (see ObservedLocalSet). */
  infraRun: string | undefined;
  containers: Map<string, ContainerHistory>;
}

export function newSetHistory(): SetHistory {
  return {
    generation: undefined,
    state: undefined,
    specKey: undefined,
    hasRun: false,
    failedAttempts: 0,
    unavailableSinceMs: undefined,
    unavailableInRow: 0,
    retryAtMs: 0,
    gaveUp: false,
    failure: undefined,
    resize: newResizeHistory(),
    preparations: newPreparationHistory(),
    overRootfs: undefined,
    infraRun: undefined,
    containers: new Map(),
  };
}

/**
 * Starts a newer generation with a new state and no failed attempts. `hasRun` stays true while the
 * containers are the same and the set should run. `hasRunBefore` reads the state file.
 */
export function enterGeneration(
  history: SetHistory,
  desired: DesiredLocalSet,
  hasRunBefore: (specKey: string) => boolean,
): void {
  if (history.generation === desired.generation) return;
  history.generation = desired.generation;
  history.state = undefined;
  history.gaveUp = false;
  history.resize = newResizeHistory();
  history.preparations = newPreparationHistory();
  noteSuccess(history);
  const specKey = computeSpecKey(desired);
  if (!holdsStop(history.overRootfs, desired, specKey)) history.overRootfs = undefined;
  if (desired.desired !== "running") history.hasRun = false;
  else if (history.specKey !== specKey) history.hasRun = hasRunBefore(specKey);
  history.specKey = specKey;
}

/**
 * A stop for disk usage ends when the containers are replaced or when the template allows that
 * much.
 */
function holdsStop(
  over: OverRootfs | undefined,
  { template }: DesiredLocalSet,
  specKey: string,
): boolean {
  return (
    over?.isStopped === true && over.specKey === specKey && over.usedBytes > template.rootfsBytes
  );
}

/** Equal for sets with equal containers. */
export function computeSpecKey(set: LocalSetSpec): string {
  const names = [INFRA_CONTAINER, ...set.template.containers.map(({ name }) => name)];
  return names.map((name) => specHash(set, name)).join(".");
}

/** Records an observation: sizes, exits and new runs. */
export function noteObserved(
  history: SetHistory,
  desired: DesiredLocalSet,
  observed: ObservedLocalSet | undefined,
  now: ClockReading,
): void {
  if (!observed) return;
  if (areLimitsApplied(desired.template, observed)) history.resize = newResizeHistory();
  const context = { isWanted: desired.desired === "running", hasRun: history.hasRun, now };
  const infra = observed.infra;
  const hasInfraExited =
    infra !== undefined && noteContainer(changeContainer(history, INFRA_CONTAINER), infra, context);
  for (const seen of observed.containers) {
    noteContainer(changeContainer(history, seen.name), seen, context);
    // Its network no longer exists. The agent restarts it, which counts as a restart.
    if (hasInfraExited && seen.state === "running")
      changeContainer(history, seen.name).hasExited = true;
  }
  noteRuns(history, observed);
}

/**
 * Records a failed step. The next step waits as `stepBackoff` says (`random` is in [0, 1)).
 *
 * The agent gives up a set that has not run yet after the third failure in a row, or after a
 * permanent failure. It also gives up if the daemon does not answer for a minute.
 */
export function noteFailure(
  history: SetHistory,
  failure: StepFailure,
  { mayGiveUp, nowMs, wallMs, random }: ClockReading & { mayGiveUp: boolean; random: number },
): void {
  history.failure = { ...failure.reason, at: new Date(wallMs).toISOString() };
  if (failure.isUnavailable) {
    history.unavailableInRow++;
    history.unavailableSinceMs ??= nowMs;
  } else {
    noteAnswered(history);
    history.failedAttempts++;
  }
  const inRow = failure.isUnavailable ? history.unavailableInRow : history.failedAttempts;
  history.retryAtMs = nowMs + computeBackoffMs(stepBackoff, inRow, random);
  if (!mayGiveUp || history.hasRun) return;
  history.gaveUp = failure.isUnavailable
    ? nowMs - (history.unavailableSinceMs ?? nowMs) >= UNAVAILABLE_MS_MAX
    : !failure.temporary || history.failedAttempts >= START_ATTEMPTS_MAX;
}

/** Records that the daemon answered, with success or not. */
export function noteAnswered(history: SetHistory): void {
  history.unavailableSinceMs = undefined;
  history.unavailableInRow = 0;
}

/** Records that the set runs, and resets the failed attempts. */
export function noteRunning(history: SetHistory): void {
  history.hasRun = true;
  noteSuccess(history);
}

/** Records the success of a step, after which the set needs no backoff. */
export function noteSuccess(history: SetHistory): void {
  noteAnswered(history);
  history.failedAttempts = 0;
  history.retryAtMs = 0;
  history.failure = undefined;
}

/** Ends the backoff of a set that only waited for the daemon. */
export function noteAvailable(history: SetHistory): void {
  if (history.unavailableSinceMs !== undefined) history.retryAtMs = 0;
}
