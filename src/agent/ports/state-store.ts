import type { DesiredSet } from "../../contracts/agent-protocol/protocol.ts";
import type { KeptSet } from "../kept-set.ts";

/**
 * What an agent keeps over its restarts. All but the accepted generation is a hint: with it containers go on being
 * cared for while the API is away. What runs is looked up in Docker.
 */
export interface AgentState {
  /** Up to here desired sets were accepted; never goes back (I4). */
  acceptedGeneration: number;
  desired: DesiredSet[];
  /** Specs (SetMemory.specKey) that have run, by set id: a set that has run is never given up here. */
  hasRun: Record<string, string>;
  /** What else is known of a set, by its id. */
  kept: Record<string, KeptSet>;
}

export interface StateStore {
  /** Undefined when there is none yet. */
  load(): Promise<AgentState | undefined>;
  /** On the disk, power cuts included, when it resolves. Calls may overlap; the last one wins. */
  save(state: AgentState): Promise<void>;
}
