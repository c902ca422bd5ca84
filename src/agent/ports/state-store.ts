import type { DesiredSet } from "../../contracts/agent-protocol/desired-set.ts";
import type { UnsupportedSet } from "../../contracts/agent-protocol/read-desired-sets.ts";
import type { PersistedHistory } from "../persisted-history.ts";

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
   * Specs (SetHistory.specKey) that have run, by set id. The agent never gives up a set that has
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
