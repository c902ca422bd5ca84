import type { DesiredSetState } from "../../contracts/api/sets.ts";
import type { Reason } from "../../contracts/common/primitives.ts";
import type { ClockReading } from "../base/clock-reading.ts";
import { INFRA_CONTAINER } from "../model/container-names.ts";
import type { ObservedLocalSet } from "../model/local-set.ts";
import type { HashedSetSpec } from "../model/outdated.ts";
import { areLimitsApplied } from "../model/set-limits.ts";
import type { ReportedState } from "../model/set-state.ts";
import {
  type Attempts,
  newAttempts,
  noteAnswered,
  endDaemonBackoff,
  noteSuccess,
} from "./attempts.ts";
import {
  ensureContainerHistory,
  type ContainerHistory,
  noteContainer,
  noteRuns,
} from "./container-history.ts";
import { newReadiness, type Readiness } from "./drain.ts";
import { newPreparationHistory, type PreparationHistory } from "./preparations.ts";
import { newResizeHistory, type ResizeHistory } from "./resize-history.ts";

/**
 * The agent's history of a set between observations: attempts, backoffs, health and restarts. Most
 * of it is lost with the agent and rebuilt from observations. So it affects only the timing of
 * steps, not their result.
 *
 * The state file stores the facts that no observation shows (persisted-history.ts). They are: the
 * set has run, the agent stopped it for its disk usage, and counters for users.
 */

/** The desired state of a set, as the agent decides by it. */
export interface DesiredLocalSet extends HashedSetSpec {
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
  /** The spec of the generation. */
  specKey: string | undefined;
  /** The last spec of which all containers have run together. */
  ranSpecKey: string | undefined;
  /**
   * The spec has run, or one with the same infra container that this one updates. From then on the
   * agent restarts the set here and never gives it up.
   */
  hasRun: boolean;
  /** Failed steps of the set lane. */
  attempts: Attempts;
  resize: ResizeHistory;
  preparations: PreparationHistory;
  /** The preparation replaces containers, and waits until the daemon has all images. */
  awaitsImages: boolean;
  overRootfs: OverRootfs | undefined;
  readiness: Readiness;
  /** This agent has observed the set. Later runs begin under this agent. */
  isObserved: boolean;
  /** The last observed run of infra (see ObservedLocalSet). */
  infraRun: string | undefined;
  containers: Map<string, ContainerHistory>;
}

export function newSetHistory(): SetHistory {
  return {
    generation: undefined,
    state: undefined,
    specKey: undefined,
    ranSpecKey: undefined,
    hasRun: false,
    attempts: newAttempts(),
    resize: newResizeHistory(),
    preparations: newPreparationHistory(),
    awaitsImages: false,
    overRootfs: undefined,
    readiness: newReadiness(),
    isObserved: false,
    infraRun: undefined,
    containers: new Map(),
  };
}

/**
 * Begins a new generation: resets the reported state and the failed attempts. `hasRun` stays true
 * while infra is the same and the set should run. So an update of some containers cannot make the
 * set leave its host. `hasRunBefore` reads the state file.
 */
export function enterGeneration(
  history: SetHistory,
  desired: DesiredLocalSet,
  hasRunBefore: (specKey: string) => boolean,
): void {
  if (history.generation === desired.generation) return;
  history.generation = desired.generation;
  history.state = undefined;
  history.resize = newResizeHistory();
  forgetOthers(history, desired);
  resetAttempts(history);
  const specKey = computeSpecKey(desired);
  if (!holdsStop(history.overRootfs, desired, specKey)) history.overRootfs = undefined;
  if (history.specKey !== specKey && hasRunBefore(specKey)) history.ranSpecKey = specKey;
  if (desired.desired !== "running") history.hasRun = false;
  else if (history.specKey !== specKey)
    history.hasRun =
      history.ranSpecKey === specKey || (history.hasRun && hasSameInfra(history.specKey, specKey));
  history.specKey = specKey;
}

function hasSameInfra(before: string | undefined, after: string): boolean {
  return before?.split(".", 1)[0] === after.split(".", 1)[0];
}

/** Forgets the containers that the template lacks. */
function forgetOthers({ containers }: SetHistory, { specHashes }: HashedSetSpec): void {
  for (const name of containers.keys()) if (specHashes[name] === undefined) containers.delete(name);
}

function resetAttempts(history: SetHistory): void {
  history.attempts = newAttempts();
  history.preparations = newPreparationHistory();
  history.awaitsImages = false;
  for (const known of history.containers.values()) {
    known.attempts = newAttempts();
    known.preparations = newPreparationHistory();
    known.needsImage = false;
    known.hasPulled = false;
  }
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

/** Equal for sets with equal containers. It begins with the hash of infra. */
export function computeSpecKey({ template, specHashes }: HashedSetSpec): string {
  const names = [INFRA_CONTAINER, ...template.containers.map(({ name }) => name)];
  return names.map((name) => specHashes[name]).join(".");
}

/**
 * Records an observation: sizes, exits and new runs. It ignores the containers in `busy`, which a
 * step is changing: a stop by Berth is not an exit of the container.
 */
export function noteObserved(
  history: SetHistory,
  desired: DesiredLocalSet,
  observed: ObservedLocalSet | undefined,
  { busy = noNames, ...now }: ClockReading & { busy?: ReadonlySet<string> },
): void {
  if (!observed) return;
  if (areLimitsApplied(desired.template, observed)) history.resize = newResizeHistory();
  const isAdoptable = history.hasRun && !history.isObserved;
  const context = { isWanted: desired.desired === "running", isAdoptable, now };
  const infra = observed.infra;
  const hasInfraExited =
    infra !== undefined &&
    !infra.isUnknown &&
    noteContainer(ensureContainerHistory(history, INFRA_CONTAINER), infra, context);
  for (const seen of observed.containers) {
    if (busy.has(seen.name) || seen.isUnknown) continue;
    noteContainer(ensureContainerHistory(history, seen.name), seen, context);
    // Its network no longer exists. The agent restarts it, which counts as a restart.
    if (hasInfraExited && seen.state === "running")
      ensureContainerHistory(history, seen.name).isRestartNext = true;
  }
  noteRuns(history, observed, busy);
}

const noNames: ReadonlySet<string> = new Set();

/** True if all containers of the spec have run together, and the set should run since. */
export function hasComeUpBefore({ hasRun, specKey, ranSpecKey }: SetHistory): boolean {
  return hasRun && specKey === ranSpecKey;
}

/** Records that all containers of the spec run, and resets the failed attempts. */
export function noteRunning(history: SetHistory): void {
  history.hasRun = true;
  history.ranSpecKey = history.specKey;
  for (const attempts of listAttempts(history)) noteSuccess(attempts);
}

/** Records that the set could be observed. Earlier failures to do so no longer count. */
export function clearObserveFailure({ attempts }: SetHistory): void {
  noteAnswered(attempts);
  if (!attempts.isOfObservation) return;
  attempts.isOfObservation = false;
  attempts.failure = undefined;
  attempts.retryAtMs = 0;
}

/** Ends the backoffs of lanes that only waited for the daemon. */
export function endDaemonBackoffs(history: SetHistory): void {
  for (const attempts of listAttempts(history)) endDaemonBackoff(attempts);
}

/** The attempts of the lane that gave the set up; undefined if none did. */
export function findGivenUp(history: SetHistory): Readonly<Attempts> | undefined {
  return listAttempts(history).find(({ gaveUp }) => gaveUp);
}

function listAttempts({ attempts, containers }: SetHistory): Attempts[] {
  return [attempts, ...[...containers.values()].map((known) => known.attempts)];
}
