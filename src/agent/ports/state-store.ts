import type { Reason } from "../../contracts/common/primitives.ts";
import type { DesiredSet } from "../../contracts/agent-protocol/desired-set.ts";
import type { UnsupportedSet } from "../../contracts/agent-protocol/read-desired-sets.ts";

/**
 * The state that survives an agent restart. Only the accepted generation must be exact; the rest is
 * a hint. The hints let the agent manage its sets while the API is unreachable. The agent observes
 * running containers in Docker, not here.
 */
export interface AgentState {
  /** The generation up to which the agent accepted desired sets. It never decreases (I4). */
  acceptedGeneration: number;
  desired: DesiredSet[];
  /** The newer orders for sets whose description the agent cannot read. */
  unsupported?: UnsupportedSet[] | undefined;
  /**
   * Specs (see `computeSpecKey`) that have run, by set id. The agent never gives up a set that has
   * run.
   */
  hasRun: Record<string, string>;
  /** The persisted part of each set's history, by set id. */
  histories: Record<string, PersistedHistory>;
  /** An operator deleted this host: its sets must not run (I3). */
  isHostDeleted?: boolean | undefined;
}

export interface StateStore {
  /** Loads the state; undefined on the first start. */
  load(): Promise<AgentState | undefined>;
  /**
   * Saves durably: after it resolves, the state survives a power failure. Calls may overlap; the
   * last one wins.
   */
  save(state: AgentState): Promise<void>;
}

/** The last run of a container that runs to completion. */
export interface PersistedRun {
  run: string;
  /** The run of infra in which it began; undefined for an earlier one than the observed run. */
  infraRun?: string | undefined;
  specHash: string;
  exit?: { code?: number | undefined; finishedAt: string } | undefined;
}

/** The part of a set's history that no observation can restore. The state file stores it. */
export interface PersistedHistory {
  /** The agent stopped the set because these containers exceeded its `rootfs`. */
  stopped?: { specKey: string; usedBytes: number; reason: Reason } | undefined;
  /** Counters of containers that have any, by name. */
  counts?: Record<string, PersistedCounts> | undefined;
  /**
   * The last runs of containers that run to completion, by name. Without it, a new agent would not
   * know whether a one-shot container has run in the current run of infra.
   */
  runs?: PersistedRuns | undefined;
}

export interface PersistedRuns {
  infraRun: string;
  containers: Record<string, PersistedRun>;
}

export interface PersistedCounts {
  restarts: number;
  oomKills: number;
  /** Kills in `lastCountedRun`. */
  oomKillsInRun: number;
  lastCountedRun?: string | undefined;
}
