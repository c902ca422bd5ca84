import type { MemoryEvents } from "../../agent/ports/cgroup-port.ts";
import type { OutOfMemory } from "../../agent/ports/container-port.ts";

/** One run of a container, from Docker's inspect. */
export interface ContainerRun {
  startedAt: string | undefined;
  finishedAt: string | undefined;
  exitCode: number | undefined;
  /** Docker's flag: some process ran out of memory at some time of the run. */
  isFlagged: boolean;
}

/** Exit code of a process that SIGKILL ended: 128 + 9. */
const killedExitCode = 137;
/** Docker's events of a kill and of the exit arrive within this time. */
const togetherMs = 5_000;

interface Known {
  startedAt: string | undefined;
  kills: number;
  /** Kills that Docker reported by events. The kernel's counter may include them. */
  reported: number;
  peakBytes: number | undefined;
  /** Monotonic times at which Docker's last event of a kill and that of the exit arrived. */
  reportedAtMs: number;
  endedAtMs: number | undefined;
}

/**
 * Counts kills for lack of memory in one run of a container. No source has all of them. The
 * kernel's counter disappears with the container's cgroup, and Docker's event is lost without a
 * listener. Docker's flag counts only to one, and is missing if the container exits before the
 * event. The highest count is correct.
 */
export class OomKills {
  readonly #known = new Map<string, Known>();

  /** Records Docker's event of a kill. `atMs` is monotonic, as a wall clock may be stepped. */
  note(dockerId: string, atMs: number): void {
    const known = this.#known.get(dockerId) ?? newRun(undefined);
    known.reported++;
    known.kills = Math.max(known.kills, known.reported);
    known.reportedAtMs = atMs;
    this.#known.set(dockerId, known);
  }

  /** Records Docker's event of the exit. */
  noteEnd(dockerId: string, atMs: number): void {
    const known = this.#known.get(dockerId);
    if (known) known.endedAtMs = atMs;
  }

  /** Drops the run: another one starts, or the container was deleted. */
  forget(dockerId: string): void {
    this.#known.delete(dockerId);
  }

  /** @param events the kernel's counters while the container runs */
  assess(dockerId: string, run: ContainerRun, events: MemoryEvents | undefined): OutOfMemory {
    let known = this.#known.get(dockerId);
    const isOther = known?.startedAt !== undefined && known.startedAt !== run.startedAt;
    if (!known || isOther) known = newRun(run.startedAt);
    known.startedAt = run.startedAt;
    const { reportedAtMs, endedAtMs } = known;
    // The flag covers any process at any time of the run. Only events have a time.
    const hasListened = Number.isFinite(reportedAtMs) && endedAtMs !== undefined;
    const isKilled = hasListened ? endedAtMs - reportedAtMs <= togetherMs : run.isFlagged;
    const oomKilled = run.exitCode === killedExitCode && isKilled;
    const isAnyKilled = run.isFlagged || oomKilled;
    known.kills = Math.max(known.kills, events?.oomKills ?? 0, isAnyKilled ? 1 : 0);
    known.peakBytes = events?.peakBytes ?? known.peakBytes;
    // Runs that never lacked memory need no entry.
    if (known.kills > 0) this.#known.set(dockerId, known);
    else this.#known.delete(dockerId);
    return { oomKills: known.kills, memoryPeakBytes: known.peakBytes, oomKilled };
  }
}

function newRun(startedAt: string | undefined): Known {
  const reportedAtMs = Number.NEGATIVE_INFINITY;
  return {
    startedAt,
    kills: 0,
    reported: 0,
    peakBytes: undefined,
    reportedAtMs,
    endedAtMs: undefined,
  };
}
