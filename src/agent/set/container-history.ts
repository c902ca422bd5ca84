import type { Reason } from "../../contracts/common/primitives.ts";
import { computeBackoffMs, repeatBackoff } from "../base/backoff.ts";
import type { ClockReading } from "../base/clock-reading.ts";
import type { ObservedContainer, ObservedLocalSet } from "../model/local-set.ts";
import { type Attempts, newAttempts } from "./attempts.ts";
import { beginRun, type ContainerRun, getRunId, hasExited, isUp } from "./container-run.ts";
import { newPreparationHistory, type PreparationHistory } from "./preparations.ts";
import { outOfMemoryReason } from "./reasons.ts";

/** A run of this length resets the count of earlier exits. */
const STABLE_AFTER_MS = 60_000;

/** The agent's history of one container of a set. The set's state is derived from these. */
export interface ContainerHistory {
  /** The last observed run; before the first observation, the run in the state file. */
  run: ContainerRun | undefined;
  /** Restarts after exits that Berth did not cause. */
  restarts: number;
  /** Exits in a row without a stable run between them. */
  exitsInRow: number;
  /** The earliest time of the next start after an exit. */
  restartAtMs: number;
  /** True after an exit that Berth did not cause. The next run then counts as a restart. */
  isRestartNext: boolean;
  /** The exit code of the last run that has ended. */
  exitCode: number | undefined;
  /** Processes that the kernel killed for lack of memory, in all runs. */
  oomKills: number;
  /** The reason of the last of these kills in the current run. */
  outOfMemory: Reason | undefined;
  /** Bytes in the root file system of the container with this Docker id. */
  rootfs: { dockerId: string; usedBytes: number } | undefined;
  /** Failed steps of the container's lane. */
  attempts: Attempts;
  preparations: PreparationHistory;
  /** The daemon lacks the container's image, so the lane pulls it. */
  needsImage: boolean;
  /** The last step of the lane was a successful pull. */
  hasPulled: boolean;
}

/** Histories by container name. */
interface ContainerHistories {
  infraRun: string | undefined;
  containers: Map<string, ContainerHistory>;
}

function newContainerHistory(): ContainerHistory {
  return {
    run: undefined,
    restarts: 0,
    exitsInRow: 0,
    restartAtMs: 0,
    isRestartNext: false,
    exitCode: undefined,
    oomKills: 0,
    outOfMemory: undefined,
    rootfs: undefined,
    attempts: newAttempts(),
    preparations: newPreparationHistory(),
    needsImage: false,
    hasPulled: false,
  };
}

const unknownContainer: Readonly<ContainerHistory> = newContainerHistory();

/**
 * The history of a container; for an unknown container, an empty history. Callers must not change
 * it.
 */
export function readContainerHistory(
  history: Pick<ContainerHistories, "containers">,
  name: string,
): Readonly<ContainerHistory> {
  return history.containers.get(name) ?? unknownContainer;
}

/** The record of a container for changes. Creates it if it is missing. */
export function ensureContainerHistory(
  history: Pick<ContainerHistories, "containers">,
  name: string,
): ContainerHistory {
  let found = history.containers.get(name);
  if (!found) {
    found = newContainerHistory();
    history.containers.set(name, found);
  }
  return found;
}

/** The history of the run that was observed; undefined if it is not recorded yet. */
export function findObservedRun(
  history: Pick<ContainerHistories, "containers">,
  seen: ObservedContainer,
): ContainerRun | undefined {
  const { run } = readContainerHistory(history, seen.name);
  return run && run.id === getRunId(seen) ? run : undefined;
}

/**
 * Records an observed container. Returns true for a new exit that Berth did not cause.
 * `isAdoptable`: a run that is observed for the first time began before this agent.
 */
export function noteContainer(
  known: ContainerHistory,
  seen: ObservedContainer,
  { isWanted, isAdoptable, now }: { isWanted: boolean; isAdoptable: boolean; now: ClockReading },
): boolean {
  const { nowMs, wallMs } = now;
  const id = getRunId(seen);
  if (id === undefined) return false;
  const isFirstSight = known.run?.seenAtMs === undefined;
  const isNew = known.run?.id !== id;
  if (isNew && known.isRestartNext) known.restarts++;
  if (isNew || isFirstSight) {
    const isAdopted = isAdoptable && isFirstSight;
    const begun = beginRun(id, { specHash: seen.specHash, isAdopted, nowMs });
    // Docker reports no earlier than the file which run of infra it was, and what was counted.
    const { infraRun, exit, oomKills = 0 } = (isNew ? undefined : known.run) ?? {};
    known.run = { ...begun, infraRun, exit, oomKills };
    known.isRestartNext = false;
    known.outOfMemory = undefined;
  }
  const { run } = known;
  if (!run) return false;
  noteOomKills(known, run, { seen, wallMs });
  if (isUp(seen)) return false;
  run.probes.isHealthy = false;
  if (!hasExited(seen) || run.isExitCounted) return false;
  run.isExitCounted = true;
  known.exitCode = seen.exitCode;
  known.restartAtMs = nowMs;
  const isOwnExit = !run.isFailedStart && !run.isStoppedByBerth;
  known.isRestartNext = isWanted && (isOwnExit || run.isAtFault);
  // Berth stopped it, or the agent did not see its run: the exit does not count against it.
  if (!known.isRestartNext || isFirstSight) return false;
  const ranMs = nowMs - (run.seenAtMs ?? nowMs);
  known.exitsInRow = ranMs >= STABLE_AFTER_MS ? 1 : known.exitsInRow + 1;
  known.restartAtMs = nowMs + computeBackoffMs(repeatBackoff, known.exitsInRow);
  return true;
}

function noteOomKills(
  known: ContainerHistory,
  run: ContainerRun,
  { seen, wallMs }: { seen: ObservedContainer; wallMs: number },
): void {
  const more = seen.oomKills - run.oomKills;
  if (more <= 0) return;
  known.oomKills += more;
  run.oomKills = seen.oomKills;
  known.outOfMemory = outOfMemoryReason(seen, { oomKills: known.oomKills, wallMs });
}

/**
 * Records the run of infra in which each container began its last run. The agent observes a set
 * after each of its steps. So a run that is new since the last observation began in the same run of
 * infra, if infra has not been restarted since then.
 *
 * Only if both are new, as for an agent without a state file, the wall clock has to decide.
 */
export function noteRuns(
  history: ContainerHistories,
  observed: ObservedLocalSet,
  busy: ReadonlySet<string>,
): void {
  const { infra, infraRun = history.infraRun } = observed;
  if (infraRun === undefined) return;
  const isSameRun = history.infraRun === infraRun;
  history.infraRun = infraRun;
  for (const seen of observed.containers) {
    const run = findObservedRun(history, seen);
    if (!run || busy.has(seen.name)) continue;
    if (run.infraRun === undefined) {
      const isInRun = isUp(seen) || (hasExited(seen) && (isSameRun || isAfter(seen, infra)));
      run.infraRun = isInRun ? infraRun : null;
    }
    if (hasExited(seen)) run.exit = { code: seen.exitCode, finishedAt: seen.finishedAt ?? "" };
  }
}

function isAfter(seen: ObservedContainer, infra: ObservedContainer | undefined): boolean {
  return Date.parse(seen.startedAt ?? "") >= Date.parse(infra?.startedAt ?? "");
}

/** Records that Berth stops the present run of a container, so its exit does not count. */
export function noteStopping(known: ContainerHistory): void {
  if (known.run) known.run.isStoppedByBerth = true;
}

/**
 * Records that the observed run counts as a failed start, so that the agent counts it once. Of a
 * set that has run, it counts as a restart.
 */
export function noteFailedRun(
  history: ContainerHistories & { hasRun: boolean },
  observed: ObservedLocalSet | undefined,
  name: string,
): void {
  const run = findRunIn(history, observed, name);
  if (run) Object.assign(run, { isFailedStart: true, isAtFault: history.hasRun });
}

/** The run of a container that was observed; undefined if it is not recorded. */
export function findRunIn(
  history: Pick<ContainerHistories, "containers">,
  observed: ObservedLocalSet | undefined,
  name: string,
): ContainerRun | undefined {
  const seen = observed?.containers.find((candidate) => candidate.name === name);
  return seen && findObservedRun(history, seen);
}
