import type { Reason } from "../contracts/common/primitives.ts";
import { changeContainer } from "./container-memory.ts";
import type { SetMemory } from "./set-memory.ts";

/** What an agent knows of a set that nobody could find out anew, so that it outlives the agent in its state file. */
export interface KeptSet {
  /** It was stopped for what these containers of it have written to their root file systems. */
  stopped?: { specKey: string; usedBytes: number; reason: Reason } | undefined;
  /** Counts of the containers that have any, by name. */
  counts?: Record<string, KeptCounts> | undefined;
}

export interface KeptCounts {
  restarts: number;
  oomKills: number;
  /** Of the life that they were counted for last. */
  oomKillsOfLife: number;
  countedLife?: string | undefined;
}

/** Undefined when there is nothing to keep, as of most sets. */
export function keptOf({ overRootfs, containers }: SetMemory): KeptSet | undefined {
  const counts: Record<string, KeptCounts> = {};
  for (const [name, { restarts, oomKills, oomKillsOfLife, countedLife }] of containers) {
    if (restarts + oomKills > 0) counts[name] = { restarts, oomKills, oomKillsOfLife, countedLife };
  }
  const hasCounts = Object.keys(counts).length > 0;
  if (!overRootfs?.isStopped) return hasCounts ? { counts } : undefined;
  const { specKey, usedBytes, reason } = overRootfs;
  return { stopped: { specKey, usedBytes, reason }, ...(hasCounts ? { counts } : {}) };
}

/** Begins a new memory with what was kept. `stops`: sets are (still) stopped for what they write. */
export function restoreKept(memory: SetMemory, kept: KeptSet | undefined, stops: boolean): void {
  for (const [name, counts] of Object.entries(kept?.counts ?? {})) {
    Object.assign(changeContainer(memory, name), counts);
  }
  if (kept?.stopped && stops) memory.overRootfs = { ...kept.stopped, isStopped: true };
}
