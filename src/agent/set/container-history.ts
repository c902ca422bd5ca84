import type { LastRun } from "../ports/state-store.ts";
import type { Reason } from "../../contracts/common/primitives.ts";
import type { HealthCheck } from "../../contracts/api/set-template.ts";
import { computeBackoffMs, repeatBackoff } from "../base/backoff.ts";
import type { ClockReading } from "../base/clock.ts";
import type { ObservedContainer, ObservedLocalSet } from "../model/local-set.ts";
import { describeBytes } from "../../lib/text/describe-bytes.ts";

/** The agent's history of each container of a set: its runs, its exits, and its health. */

/** A run of this length resets the count of earlier exits. */
const STABLE_AFTER_MS = 60_000;
/**
 * Shortest interval of probes during a start, so that a start does not wait for the probe interval.
 */
const STARTUP_PROBE_MS_MIN = 25;

export interface ContainerHistory {
  /** The current run: Docker's container id and the start time. */
  run: string | undefined;
  /** Monotonic time of the first observation of `run`. */
  runSeenAtMs: number;
  lastRun: LastRun | undefined;
  /** Restarts after exits that Berth did not cause. */
  restarts: number;
  /** Exits in a row without a stable run between them. */
  exitsInRow: number;
  /** The earliest time of the next start. */
  restartAtMs: number;
  /** The last run whose exit is recorded. */
  lastExitedRun: string | undefined;
  /** True after an exit that Berth did not cause. The next run then counts as a restart. */
  hasExited: boolean;
  exitCode: number | undefined;
  /** Processes that the kernel killed for lack of memory: in all runs, and in `lastCountedRun`. */
  oomKills: number;
  oomKillsInRun: number;
  lastCountedRun: string | undefined;
  /** The reason of the last of these kills. */
  outOfMemory: Reason | undefined;
  /** Bytes in the root file system of the container with this Docker id. */
  rootfs: { dockerId: string; usedBytes: number } | undefined;
  /** The run that already counts as a failed start. */
  failedRun: string | undefined;
  isHealthy: boolean;
  /**
   * True if the container was healthy at any time in this run. Then containers with a higher index
   * may start.
   */
  wasHealthy: boolean;
  /** Failed probes in a row, and the detail of the last one. */
  probeFailures: number;
  probeDetail: string | undefined;
  probes: number;
  nextProbeAtMs: number;
}

/** Histories by container name. */
interface ContainerHistories {
  infraRun: string | undefined;
  containers: Map<string, ContainerHistory>;
}

function newContainerHistory(): ContainerHistory {
  return {
    run: undefined,
    runSeenAtMs: 0,
    lastRun: undefined,
    restarts: 0,
    exitsInRow: 0,
    restartAtMs: 0,
    lastExitedRun: undefined,
    hasExited: false,
    exitCode: undefined,
    oomKills: 0,
    oomKillsInRun: 0,
    lastCountedRun: undefined,
    outOfMemory: undefined,
    rootfs: undefined,
    failedRun: undefined,
    isHealthy: false,
    wasHealthy: false,
    probeFailures: 0,
    probeDetail: undefined,
    probes: 0,
    nextProbeAtMs: 0,
  };
}

const unknownContainer: Readonly<ContainerHistory> = newContainerHistory();

/**
 * The history of a container; for an unknown container, an empty history. Callers must not change
 * it.
 */
export function containerHistory(
  history: ContainerHistories,
  name: string,
): Readonly<ContainerHistory> {
  return history.containers.get(name) ?? unknownContainer;
}

export function changeContainer(history: ContainerHistories, name: string): ContainerHistory {
  let found = history.containers.get(name);
  if (!found) {
    found = newContainerHistory();
    history.containers.set(name, found);
  }
  return found;
}

/** Identifies a run of a container; undefined for a container that never ran. */
export function getRunId(seen: ObservedContainer): string | undefined {
  return seen.startedAt === undefined ? undefined : `${seen.dockerId}@${seen.startedAt}`;
}

/** Records an observed container. Returns true for a new exit that Berth did not cause. */
export function noteContainer(
  known: ContainerHistory,
  seen: ObservedContainer,
  { isWanted, hasRun, now }: { isWanted: boolean; hasRun: boolean; now: ClockReading },
): boolean {
  const { nowMs, wallMs } = now;
  const run = getRunId(seen);
  const isFirstSight = known.run === undefined;
  if (run !== undefined && run !== known.run) beginRun(known, run, hasRun && isFirstSight, nowMs);
  noteOomKills(known, seen, wallMs);
  if (seen.state === "running" || seen.state === "restarting" || run === undefined) return false;
  known.isHealthy = false;
  if (!hasExited(seen) || known.lastExitedRun === run) return false;
  known.lastExitedRun = run;
  known.exitCode = seen.exitCode;
  known.restartAtMs = nowMs;
  known.hasExited = isWanted && known.failedRun !== run;
  // Berth stopped it, or the agent did not see its run: the exit does not count against it.
  if (!known.hasExited || isFirstSight) return false;
  const ranMs = nowMs - known.runSeenAtMs;
  known.exitsInRow = ranMs >= STABLE_AFTER_MS ? 1 : known.exitsInRow + 1;
  known.restartAtMs = nowMs + computeBackoffMs(repeatBackoff, known.exitsInRow);
  return true;
}

function noteOomKills(known: ContainerHistory, seen: ObservedContainer, wallMs: number): void {
  const run = getRunId(seen);
  if (known.lastCountedRun !== run) known.oomKillsInRun = 0;
  known.lastCountedRun = run;
  const more = seen.oomKills - known.oomKillsInRun;
  if (more <= 0) return;
  known.oomKills += more;
  known.oomKillsInRun = seen.oomKills;
  const times = known.oomKills === 1 ? "" : `, ${known.oomKills} times so far`;
  known.outOfMemory = {
    code: "out-of-memory",
    text: `"${seen.name}" ran out of memory and the kernel killed one of its processes${times}${memoryUsageText(seen)}`,
    phase: "run",
    at: new Date(wallMs).toISOString(),
  };
}

/** Memory usage and limit of a container, as part of a sentence. */
export function memoryUsageText({ limits, memoryPeakBytes }: ObservedContainer): string {
  if (!limits || !Number.isFinite(limits.memoryBytes)) return "";
  const peak =
    memoryPeakBytes === undefined ? "" : `peak memory ${describeBytes(memoryPeakBytes)}, `;
  return `; ${peak}limit ${describeBytes(limits.memoryBytes)}`;
}

/**
 * True for a container that ran and exited. False if it never started, or lost its network and
 * still runs.
 */
export function hasExited({ state, startedAt, finishedAt }: ObservedContainer): boolean {
  if (state !== "exited" && state !== "dead") return false;
  return startedAt !== undefined && finishedAt !== undefined;
}

/**
 * Records the run of infra in which each container began its last run. The agent observes a set
 * after each of its steps. So a run that is new since the last observation began in the same run of
 * infra, if infra has not been restarted since then.
 *
 * Only if both are new, as for an agent without a state file, the wall clock has to decide.
 */
export function noteRuns(history: ContainerHistories, observed: ObservedLocalSet): void {
  const { infra, infraRun = history.infraRun } = observed;
  if (infraRun === undefined) return;
  const isSameRun = history.infraRun === infraRun;
  history.infraRun = infraRun;
  for (const seen of observed.containers) {
    const run = getRunId(seen);
    if (run === undefined) continue;
    const known = changeContainer(history, seen.name);
    if (known.lastRun?.run !== run) {
      const isInRun = isUp(seen) || (hasExited(seen) && (isSameRun || isAfter(seen, infra)));
      const { specHash } = seen;
      known.lastRun = { run, infraRun: isInRun ? infraRun : undefined, specHash };
    }
    if (!hasExited(seen)) continue;
    known.lastRun.exit = { code: seen.exitCode, finishedAt: seen.finishedAt ?? "" };
  }
}

function isUp({ state }: ObservedContainer): boolean {
  return state === "running" || state === "restarting";
}

function isAfter(seen: ObservedContainer, infra: ObservedContainer | undefined): boolean {
  return Date.parse(seen.startedAt ?? "") >= Date.parse(infra?.startedAt ?? "");
}

/**
 * Starts the record of a new run. If the set has run before, a new agent assumes that its running
 * containers are healthy until a probe fails.
 */
function beginRun(known: ContainerHistory, run: string, isAdopted: boolean, nowMs: number): void {
  if (known.hasExited) known.restarts++;
  known.run = run;
  known.runSeenAtMs = nowMs;
  known.hasExited = false;
  known.isHealthy = isAdopted;
  known.wasHealthy = isAdopted;
  known.probeFailures = 0;
  known.probeDetail = undefined;
  known.probes = 0;
  known.nextProbeAtMs = nowMs;
  known.outOfMemory = undefined;
}

/** Records that these runs count as a failed start, so that the agent counts each of them once. */
export function noteFailedRuns(
  history: ContainerHistories,
  observed: ObservedLocalSet | undefined,
  names: readonly string[],
): void {
  for (const seen of observed?.containers ?? []) {
    if (names.includes(seen.name)) changeContainer(history, seen.name).failedRun = getRunId(seen);
  }
}

/**
 * Records a probe's result and schedules the next probe. Failures during the start period do not
 * count.
 */
export function noteProbe(
  history: ContainerHistories,
  seen: ObservedContainer,
  check: HealthCheck,
  result: { healthy: true } | { healthy: false; detail: string },
  nowMs: number,
): void {
  const known = changeContainer(history, seen.name);
  if (known.run !== getRunId(seen)) return;
  known.probes++;
  if (result.healthy) {
    known.isHealthy = true;
    known.wasHealthy = true;
    known.probeFailures = 0;
    known.probeDetail = undefined;
  } else {
    const isStarting = nowMs - known.runSeenAtMs < check.startPeriodSeconds * 1_000;
    if (known.wasHealthy || !isStarting) known.probeFailures++;
    known.probeDetail = result.detail;
    if (known.probeFailures >= check.failureThreshold) known.isHealthy = false;
  }
  const intervalMs = check.intervalSeconds * 1_000;
  const eagerMs = STARTUP_PROBE_MS_MIN * 2 ** Math.min(known.probes - 1, 10);
  known.nextProbeAtMs = nowMs + (known.wasHealthy ? intervalMs : Math.min(intervalMs, eagerMs));
}

/**
 * Schedules the next probe after a probe that could not run. The daemon is at fault, not the
 * container.
 */
export function postponeProbe(
  history: ContainerHistories,
  name: string,
  check: HealthCheck,
  nowMs: number,
): void {
  changeContainer(history, name).nextProbeAtMs = nowMs + check.intervalSeconds * 1_000;
}
