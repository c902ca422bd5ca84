import type { Reason } from "../contracts/common/primitives.ts";
import { changeContainer } from "./container-history.ts";
import type { SetHistory } from "./set-history.ts";

/** The part of a set's history that no observation can restore. The state file stores it. */
export interface PersistedHistory {
  /** The agent stopped the set because these containers exceeded its `rootfs`. */
  stopped?: { specKey: string; usedBytes: number; reason: Reason } | undefined;
  /** Counters of containers that have any, by name. */
  counts?: Record<string, PersistedCounts> | undefined;
}

export interface PersistedCounts {
  restarts: number;
  oomKills: number;
  /** Kills in `lastCountedRun`. */
  oomKillsInRun: number;
  lastCountedRun?: string | undefined;
}

/** Returns undefined if there is nothing to persist, as for most sets. */
export function toPersistedHistory({
  overRootfs,
  containers,
}: SetHistory): PersistedHistory | undefined {
  const counts: Record<string, PersistedCounts> = {};
  for (const [name, { restarts, oomKills, oomKillsInRun, lastCountedRun }] of containers) {
    if (restarts + oomKills > 0)
      counts[name] = { restarts, oomKills, oomKillsInRun, lastCountedRun };
  }
  const hasCounts = Object.keys(counts).length > 0;
  if (!overRootfs?.isStopped) return hasCounts ? { counts } : undefined;
  const { specKey, usedBytes, reason } = overRootfs;
  return { stopped: { specKey, usedBytes, reason }, ...(hasCounts ? { counts } : {}) };
}

/**
 * Restores a new history from its persisted part. `stops`: the agent's policy is to stop sets that
 * exceed their `rootfs`.
 */
export function restoreHistory(
  history: SetHistory,
  persisted: PersistedHistory | undefined,
  stops: boolean,
): void {
  for (const [name, counts] of Object.entries(persisted?.counts ?? {})) {
    Object.assign(changeContainer(history, name), counts);
  }
  if (persisted?.stopped && stops) history.overRootfs = { ...persisted.stopped, isStopped: true };
}
