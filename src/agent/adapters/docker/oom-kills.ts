import type { MemoryEvents } from "../cgroup/read-cgroup.ts";

/** What one run of a container has been through. */
export interface OutOfMemory {
  /** Processes of it that the kernel killed for want of memory. */
  oomKills: number;
  /** The most memory it had, page cache included; undefined when that was not seen. */
  memoryPeakBytes: number | undefined;
  /** Its main process was one of them. */
  oomKilled: boolean;
}

/** One run of a container, as Docker's inspect shows it. */
export interface ContainerRun {
  startedAt: string | undefined;
  finishedAt: string | undefined;
  exitCode: number | undefined;
  /** Docker's word for having run out of memory, by any process at any time of the run. */
  isFlagged: boolean;
}

/** What the kernel ends a process with that it kills: 128 and SIGKILL. */
const killedExitCode = 137;
/** Docker tells of a kill, and notes the end of the container, within this time of each other. */
const togetherMs = 5_000;

interface Known {
  startedAt: string | undefined;
  kills: number;
  /** How many of them Docker has told of. The kernel's counter may have had them already. */
  told: number;
  peakBytes: number | undefined;
  /** When Docker last told of one. */
  toldAtMs: number;
}

/**
 * Counts kills for want of memory over one run of a container. No source has them all: the kernel's counter goes with the
 * container's cgroup when it ends, Docker's event is lost when nobody listens, and Docker's flag counts no further than
 * one, and is missing when the container ends before its event has come. The highest count is true.
 */
export class OomKills {
  readonly #known = new Map<string, Known>();

  /** Docker tells of one. */
  note(dockerId: string, atMs: number): void {
    const known = this.#known.get(dockerId) ?? newRun(undefined);
    known.told++;
    known.kills = Math.max(known.kills, known.told);
    known.toldAtMs = atMs;
    this.#known.set(dockerId, known);
  }

  /** Another run of it begins, or it is no more. */
  forget(dockerId: string): void {
    this.#known.delete(dockerId);
  }

  /** @param events the kernel's, while the container runs */
  assess(dockerId: string, run: ContainerRun, events: MemoryEvents | undefined): OutOfMemory {
    let known = this.#known.get(dockerId);
    const isOther = known?.startedAt !== undefined && known.startedAt !== run.startedAt;
    if (!known || isOther) known = newRun(run.startedAt);
    known.startedAt = run.startedAt;
    const finishedAtMs = Date.parse(run.finishedAt ?? "");
    const isTold = Math.abs(finishedAtMs - known.toldAtMs) <= togetherMs;
    // The flag is raised for any process, however long before the end; when that was is known only of what was told.
    const hasListened = Number.isFinite(known.toldAtMs);
    const oomKilled = run.exitCode === killedExitCode && (hasListened ? isTold : run.isFlagged);
    const isAnyKilled = run.isFlagged || oomKilled;
    known.kills = Math.max(known.kills, events?.oomKills ?? 0, isAnyKilled ? 1 : 0);
    known.peakBytes = events?.peakBytes ?? known.peakBytes;
    // What never ran out of memory need not be remembered.
    if (known.kills > 0) this.#known.set(dockerId, known);
    else this.#known.delete(dockerId);
    return { oomKills: known.kills, memoryPeakBytes: known.peakBytes, oomKilled };
  }
}

function newRun(startedAt: string | undefined): Known {
  const toldAtMs = Number.NEGATIVE_INFINITY;
  return { startedAt, kills: 0, told: 0, peakBytes: undefined, toldAtMs };
}
