import type { Reason } from "../contracts/common/primitives.ts";
import type { SetDesire } from "../contracts/api/sets.ts";
import { backoffMs } from "./backoff.ts";
import { changeContainer, type ContainerMemory, noteContainer } from "./container-memory.ts";
import { INFRA_CONTAINER } from "./container-names.ts";
import type { LocalSetSpec, ObservedLocalSet } from "./ports/set-port.ts";
import { newResizeMemory, type ResizeMemory } from "./resize-memory.ts";
import { isSized } from "./set-limits.ts";
import type { ReportedState } from "./set-state.ts";
import { specHash } from "./spec-hash.ts";
import type { StepFailure } from "./step-failure.ts";

/**
 * What the agent remembers of a set between two looks at it: attempts, backoffs, health and restarts. Most of it is lost with
 * the agent, and rebuilt from what is there, so it only decides how soon and how often, not what. What cannot be seen
 * again is kept (kept-set.ts): that the set has run, that it was stopped for what it wrote, and counts that people read.
 */

/** Starts in a row that may fail before the set is given up on this host. */
export const START_ATTEMPTS_MAX = 3;
/** A daemon that does not answer is no fault of the set; after this long the set is better off elsewhere all the same. */
export const UNAVAILABLE_MS_MAX = 60_000;

/** What an agent keeps of what it was told about a set. */
export interface DesiredLocalSet extends LocalSetSpec {
  desired: SetDesire;
}

/** The containers of a set have written more to their root file systems than its template gives it. */
export interface OverRootfs {
  reason: Reason;
  usedBytes: number;
  /** It was stopped for that, and stays so as long as its containers are these. */
  isStopped: boolean;
  /** Which they are (see `specKeyOf`). */
  specKey: string;
}

export interface SetMemory {
  /** The generation that state and attempts are counted for. */
  generation: number | undefined;
  state: ReportedState | undefined;
  /** The spec that `hasRun` is about. */
  specKey: string | undefined;
  /** It has run as it is: from then on it is restarted here, and never given up. */
  hasRun: boolean;
  failedAttempts: number;
  /** Since when, and how often in a row, the daemon did not answer. */
  unavailableSinceMs: number | undefined;
  unavailableInRow: number;
  /** No step before this. */
  retryAtMs: number;
  gaveUp: boolean;
  failure: Reason | undefined;
  resize: ResizeMemory;
  overRootfs: OverRootfs | undefined;
  containers: Map<string, ContainerMemory>;
}

export function newSetMemory(): SetMemory {
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
    resize: newResizeMemory(),
    overRootfs: undefined,
    containers: new Map(),
  };
}

/**
 * A newer generation is a new chance: its state and its attempts begin anew. What has run keeps that merit as long as
 * its containers stay the same and it is wanted to run. `hasRunBefore` is what the state file says of this spec.
 */
export function enterGeneration(
  memory: SetMemory,
  desired: DesiredLocalSet,
  hasRunBefore: (specKey: string) => boolean,
): void {
  if (memory.generation === desired.generation) return;
  memory.generation = desired.generation;
  memory.state = undefined;
  memory.gaveUp = false;
  memory.resize = newResizeMemory();
  noteSuccess(memory);
  const specKey = specKeyOf(desired);
  if (!holdsStop(memory.overRootfs, desired, specKey)) memory.overRootfs = undefined;
  if (desired.desired !== "running") memory.hasRun = false;
  else if (memory.specKey !== specKey) memory.hasRun = hasRunBefore(specKey);
  memory.specKey = specKey;
}

/** A stop for what was written ends when the containers are made anew, or may have that much by now. */
function holdsStop(
  over: OverRootfs | undefined,
  { template }: DesiredLocalSet,
  specKey: string,
): boolean {
  return (
    over?.isStopped === true && over.specKey === specKey && over.usedBytes > template.rootfsBytes
  );
}

/** Equal for sets whose containers are all the same. */
export function specKeyOf(set: LocalSetSpec): string {
  const names = [INFRA_CONTAINER, ...set.template.containers.map(({ name }) => name)];
  return names.map((name) => specHash(set, name)).join(".");
}

/** Takes note of what is there: its size, containers that ended, and those that live anew. */
export function noteObserved(
  memory: SetMemory,
  desired: DesiredLocalSet,
  observed: ObservedLocalSet | undefined,
  nowMs: number,
): void {
  if (!observed) return;
  if (isSized(desired.template, observed)) memory.resize = newResizeMemory();
  const about = { isWanted: desired.desired === "running", hasRun: memory.hasRun, nowMs };
  const infra = observed.infra;
  const hasInfraEnded =
    infra !== undefined && noteContainer(changeContainer(memory, INFRA_CONTAINER), infra, about);
  for (const seen of observed.containers) {
    noteContainer(changeContainer(memory, seen.name), seen, about);
    // Its network has gone: it will be made anew, through no wish of anybody's.
    if (hasInfraEnded && seen.state === "running")
      changeContainer(memory, seen.name).hasEnded = true;
  }
}

/**
 * Takes note of a failed step: the next one waits 1 s doubling to 60 s, and up to a quarter longer (`random` is in
 * [0, 1)). While the set has not run yet, the third failure in a row, one that only a change of the set can cure, or a
 * daemon that has not answered for a minute gives the set up on this host.
 */
export function noteFailure(
  memory: SetMemory,
  failure: StepFailure,
  { mayGiveUp, nowMs, random }: { mayGiveUp: boolean; nowMs: number; random: number },
): void {
  memory.failure = { ...failure.reason, at: new Date(nowMs).toISOString() };
  if (failure.isUnavailable) {
    memory.unavailableInRow++;
    memory.unavailableSinceMs ??= nowMs;
  } else {
    noteAnswered(memory);
    memory.failedAttempts++;
  }
  const inRow = failure.isUnavailable ? memory.unavailableInRow : memory.failedAttempts;
  memory.retryAtMs = nowMs + Math.round(backoffMs(inRow) * (1 + random / 4));
  if (!mayGiveUp || memory.hasRun) return;
  memory.gaveUp = failure.isUnavailable
    ? nowMs - (memory.unavailableSinceMs ?? nowMs) >= UNAVAILABLE_MS_MAX
    : !failure.temporary || memory.failedAttempts >= START_ATTEMPTS_MAX;
}

/** The daemon did answer, whatever it said. */
export function noteAnswered(memory: SetMemory): void {
  memory.unavailableSinceMs = undefined;
  memory.unavailableInRow = 0;
}

/** Takes note that the set has run as it should: attempts are counted anew. */
export function noteRunning(memory: SetMemory): void {
  memory.hasRun = true;
  noteSuccess(memory);
}

/** A step of a set that has run, or one of its end, went well. */
export function noteSuccess(memory: SetMemory): void {
  noteAnswered(memory);
  memory.failedAttempts = 0;
  memory.retryAtMs = 0;
  memory.failure = undefined;
}

/** The daemon answers again: what only waited for that need not wait longer. */
export function noteAvailable(memory: SetMemory): void {
  if (memory.unavailableSinceMs !== undefined) memory.retryAtMs = 0;
}
