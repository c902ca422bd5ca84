import type { Reason } from "../contracts/common/primitives.ts";
import type { HealthCheck } from "../contracts/api/set-template.ts";
import { backoffMs } from "./backoff.ts";
import type { ObservedContainer, ObservedLocalSet } from "./ports/set-port.ts";

/** What the agent remembers of each container of a set: its lives, how they ended, and its health. */

/** A container that ran this long has made up for its earlier exits. */
const STABLE_AFTER_MS = 60_000;
/** While a set starts, probes come quicker than their interval, so that no start waits long for one. */
const EAGER_PROBE_MS_MIN = 25;

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
  /** Processes of it that were killed for want of memory, in all its lives and in the one that they were counted for last. */
  oomKills: number;
  oomKillsOfLife: number;
  countedLife: string | undefined;
  /** What was said of the last of them. */
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

/** By name. */
interface ContainerMemories {
  containers: Map<string, ContainerMemory>;
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
    countedLife: undefined,
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
export function containerMemory(
  memory: ContainerMemories,
  name: string,
): Readonly<ContainerMemory> {
  return memory.containers.get(name) ?? unknownContainer;
}

export function changeContainer(memory: ContainerMemories, name: string): ContainerMemory {
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

/** True when it is news that the container has ended by itself. */
export function noteContainer(
  known: ContainerMemory,
  seen: ObservedContainer,
  { isWanted, hasRun, nowMs }: { isWanted: boolean; hasRun: boolean; nowMs: number },
): boolean {
  const life = lifeOf(seen);
  const isFirstSight = known.life === undefined;
  if (life !== undefined && life !== known.life)
    beginLife(known, life, hasRun && isFirstSight, nowMs);
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
  const life = lifeOf(seen);
  if (known.countedLife !== life) known.oomKillsOfLife = 0;
  known.countedLife = life;
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
  known.outOfMemory = undefined;
}

/** Takes note that a start has failed in these containers, which will not be counted again. */
export function noteFailedLives(
  memory: ContainerMemories,
  observed: ObservedLocalSet | undefined,
  names: readonly string[],
): void {
  for (const seen of observed?.containers ?? []) {
    if (names.includes(seen.name)) changeContainer(memory, seen.name).failedLife = lifeOf(seen);
  }
}

/** Takes note of a probe's result, and says when the next one is due. Failures of the start period do not count. */
export function noteProbe(
  memory: ContainerMemories,
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
  memory: ContainerMemories,
  name: string,
  check: HealthCheck,
  nowMs: number,
): void {
  changeContainer(memory, name).nextProbeAtMs = nowMs + check.intervalSeconds * 1_000;
}
