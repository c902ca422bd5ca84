import type { Reason } from "../contracts/primitives.ts";
import type { HealthCheck } from "../contracts/set-template.ts";
import type { SetDesire } from "../contracts/sets.ts";
import { backoffMs } from "./backoff.ts";
import { INFRA_CONTAINER } from "./container-names.ts";
import type { LocalSetSpec, ObservedContainer, ObservedLocalSet } from "./ports/set-port.ts";
import { newResizeMemory, type ResizeMemory } from "./resize-memory.ts";
import { isSized } from "./set-limits.ts";
import type { ReportedState } from "./set-state.ts";
import { specHash } from "./spec-hash.ts";

/**
 * What the agent remembers of a set between two looks at it: attempts, backoffs, health and restarts. All of it is lost with
 * the agent but `hasRun`, and rebuilt from what is there; so it only ever decides how soon and how often, not what.
 */

/** Starts in a row that may fail before the set is given up on this host. */
export const START_ATTEMPTS_MAX = 3;
/** A daemon that does not answer is no fault of the set; after this long the set is better off elsewhere all the same. */
export const UNAVAILABLE_MS_MAX = 60_000;
/** A container that ran this long has made up for its earlier exits. */
const STABLE_AFTER_MS = 60_000;
/** While a set starts, probes come quicker than their interval, so that no start waits long for one. */
const EAGER_PROBE_MS_MIN = 25;

/** What an agent keeps of what it was told about a set. */
export interface DesiredLocalSet extends LocalSetSpec {
  desired: SetDesire;
}

export interface ContainerMemory {
  /** Which run of which container this is about: Docker's id and the time of its start. */
  life: string | undefined;
  /** It began again after it had ended by itself. */
  restarts: number;
  /** Exits in a row without a stable run in between. */
  exitsInRow: number;
  /** Not started again before this. */
  restartAtMs: number;
  /** The life whose end was taken note of. */
  endedLife: string | undefined;
  /** It ended by itself, so its next life counts as a restart. */
  hasEnded: boolean;
  exitCode: number | undefined;
  /** Processes of it that were killed for want of memory, in all its lives and in this one, and what was said of the last. */
  oomKills: number;
  oomKillsOfLife: number;
  outOfMemory: Reason | undefined;
  /** What it has written to its root file system, and which container that was. */
  rootfs: { dockerId: string; usedBytes: number } | undefined;
  /** The life that counts as a failed start already. */
  failedLife: string | undefined;
  isHealthy: boolean;
  /** It was healthy at some time of this life, so what comes after it in the start order may start. */
  wasHealthy: boolean;
  /** Probes that failed in a row, and what the last of them said. */
  probeFailures: number;
  probeDetail: string | undefined;
  probes: number;
  nextProbeAtMs: number;
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
  /** Its containers have written more to their root file systems than its template gives it, and whether it was stopped for that. */
  overRootfs: { reason: Reason; isStopped: boolean } | undefined;
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

function newContainerMemory(): ContainerMemory {
  return {
    life: undefined,
    restarts: 0,
    exitsInRow: 0,
    restartAtMs: 0,
    endedLife: undefined,
    hasEnded: false,
    exitCode: undefined,
    oomKills: 0,
    oomKillsOfLife: 0,
    outOfMemory: undefined,
    rootfs: undefined,
    failedLife: undefined,
    isHealthy: false,
    wasHealthy: false,
    probeFailures: 0,
    probeDetail: undefined,
    probes: 0,
    nextProbeAtMs: 0,
  };
}

const unknownContainer: Readonly<ContainerMemory> = newContainerMemory();

/** What is remembered of a container; of an unknown one what a new one would be. Not to be changed. */
export function containerMemory(memory: SetMemory, name: string): Readonly<ContainerMemory> {
  return memory.containers.get(name) ?? unknownContainer;
}

export function changeContainer(memory: SetMemory, name: string): ContainerMemory {
  let found = memory.containers.get(name);
  if (!found) {
    found = newContainerMemory();
    memory.containers.set(name, found);
  }
  return found;
}

/** Names a run of a container; undefined for one that never ran. */
export function lifeOf(seen: ObservedContainer): string | undefined {
  return seen.startedAt === undefined ? undefined : `${seen.dockerId}@${seen.startedAt}`;
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
  memory.overRootfs = undefined;
  noteSuccess(memory);
  const specKey = specKeyOf(desired);
  if (desired.desired !== "running") memory.hasRun = false;
  else if (memory.specKey !== specKey) memory.hasRun = hasRunBefore(specKey);
  memory.specKey = specKey;
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
  const isWanted = desired.desired === "running";
  const infra = observed.infra;
  const hasInfraEnded =
    infra !== undefined && noteContainer(memory, infra, INFRA_CONTAINER, isWanted, nowMs);
  for (const seen of observed.containers) {
    noteContainer(memory, seen, seen.name, isWanted, nowMs);
    // Its network has gone: it will be made anew, through no wish of anybody's.
    if (hasInfraEnded && seen.state === "running")
      changeContainer(memory, seen.name).hasEnded = true;
  }
}

/** True when it is news that the container has ended by itself. */
function noteContainer(
  memory: SetMemory,
  seen: ObservedContainer,
  name: string,
  isWanted: boolean,
  nowMs: number,
): boolean {
  const known = changeContainer(memory, name);
  const life = lifeOf(seen);
  const isFirstSight = known.life === undefined;
  if (life !== undefined && life !== known.life)
    beginLife(known, life, memory.hasRun && isFirstSight, nowMs);
  noteOomKills(known, seen, nowMs);
  if (seen.state === "running" || seen.state === "restarting" || life === undefined) return false;
  known.isHealthy = false;
  if (!hasEnded(seen) || known.endedLife === life) return false;
  known.endedLife = life;
  known.exitCode = seen.exitCode;
  known.restartAtMs = nowMs;
  known.hasEnded = isWanted && known.failedLife !== life;
  // Stopped because it was to stop, or nobody saw how it ended: nothing that is held against it.
  if (!known.hasEnded || isFirstSight) return false;
  const ranMs = Date.parse(seen.finishedAt ?? "") - Date.parse(seen.startedAt ?? "");
  known.exitsInRow = ranMs >= STABLE_AFTER_MS ? 1 : known.exitsInRow + 1;
  known.restartAtMs = nowMs + backoffMs(known.exitsInRow);
  return true;
}

function noteOomKills(known: ContainerMemory, seen: ObservedContainer, nowMs: number): void {
  const more = seen.oomKills - known.oomKillsOfLife;
  if (more <= 0) return;
  known.oomKills += more;
  known.oomKillsOfLife = seen.oomKills;
  const times = known.oomKills === 1 ? "" : `, ${known.oomKills} times by now`;
  known.outOfMemory = {
    code: "out-of-memory",
    text: `"${seen.name}" ran out of memory and the kernel killed a process of it${times}${memoryOf(seen)}`,
    phase: "run",
    at: new Date(nowMs).toISOString(),
  };
}

/** What a container had of its memory and what it may have, as part of a sentence. */
export function memoryOf({ limits, memoryPeakBytes }: ObservedContainer): string {
  if (!limits || !Number.isFinite(limits.memoryBytes)) return "";
  const use = memoryPeakBytes === undefined ? "" : `it had ${memoryPeakBytes} bytes at most, `;
  return `; ${use}its limit is ${limits.memoryBytes} bytes`;
}

/** It ran and has ended, other than one that was never started or that lost its network while it runs. */
export function hasEnded({ state, startedAt, finishedAt }: ObservedContainer): boolean {
  if (state !== "exited" && state !== "dead") return false;
  if (startedAt === undefined || finishedAt === undefined) return false;
  return Date.parse(finishedAt) >= Date.parse(startedAt);
}

/** One that ran when a new agent first saw it counts as healthy until probes say otherwise, if the set has run before. */
function beginLife(known: ContainerMemory, life: string, isAdopted: boolean, nowMs: number): void {
  if (known.hasEnded) known.restarts++;
  known.life = life;
  known.hasEnded = false;
  known.isHealthy = isAdopted;
  known.wasHealthy = isAdopted;
  known.probeFailures = 0;
  known.probeDetail = undefined;
  known.probes = 0;
  known.nextProbeAtMs = nowMs;
  known.oomKillsOfLife = 0;
  known.outOfMemory = undefined;
}

export interface StepFailure {
  reason: Reason;
  temporary: boolean;
  /** The daemon did not answer: not the set's fault. */
  isUnavailable: boolean;
}

/**
 * Takes note of a failed step: the next one waits 1 s doubling to 60 s, and up to a quarter longer (`random` is in
 * [0, 1)). While the set has not run yet, the third failure in a row, one that only a change of the set can cure, or a
 * daemon that has not answered for a minute gives the set up on this host.
 */
export function noteFailure(
  memory: SetMemory,
  failure: StepFailure,
  { isStarting, nowMs, random }: { isStarting: boolean; nowMs: number; random: number },
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
  if (!isStarting || memory.hasRun) return;
  memory.gaveUp = failure.isUnavailable
    ? nowMs - (memory.unavailableSinceMs ?? nowMs) >= UNAVAILABLE_MS_MAX
    : !failure.temporary || memory.failedAttempts >= START_ATTEMPTS_MAX;
}

/** The daemon did answer, whatever it said. */
export function noteAnswered(memory: SetMemory): void {
  memory.unavailableSinceMs = undefined;
  memory.unavailableInRow = 0;
}

/** Takes note that a start has failed in these containers, which will not be counted again. */
export function noteFailedLives(
  memory: SetMemory,
  observed: ObservedLocalSet | undefined,
  names: readonly string[],
): void {
  for (const seen of observed?.containers ?? []) {
    if (names.includes(seen.name)) changeContainer(memory, seen.name).failedLife = lifeOf(seen);
  }
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

/** Takes note of a probe's result, and says when the next one is due. Failures of the start period do not count. */
export function noteProbe(
  memory: SetMemory,
  seen: ObservedContainer,
  check: HealthCheck,
  result: { healthy: true } | { healthy: false; detail: string },
  nowMs: number,
): void {
  const known = changeContainer(memory, seen.name);
  if (known.life !== lifeOf(seen)) return;
  known.probes++;
  if (result.healthy) {
    known.isHealthy = true;
    known.wasHealthy = true;
    known.probeFailures = 0;
    known.probeDetail = undefined;
  } else {
    const startedAtMs = Date.parse(seen.startedAt ?? "");
    const isStarting = nowMs - startedAtMs < check.startPeriodSeconds * 1_000;
    if (known.wasHealthy || !isStarting) known.probeFailures++;
    known.probeDetail = result.detail;
    if (known.probeFailures >= check.failureThreshold) known.isHealthy = false;
  }
  const intervalMs = check.intervalSeconds * 1_000;
  const eagerMs = EAGER_PROBE_MS_MIN * 2 ** Math.min(known.probes - 1, 10);
  known.nextProbeAtMs = nowMs + (known.wasHealthy ? intervalMs : Math.min(intervalMs, eagerMs));
}

/** A probe could not be made: the daemon's trouble, not the container's. */
export function postponeProbe(
  memory: SetMemory,
  name: string,
  check: HealthCheck,
  nowMs: number,
): void {
  changeContainer(memory, name).nextProbeAtMs = nowMs + check.intervalSeconds * 1_000;
}
