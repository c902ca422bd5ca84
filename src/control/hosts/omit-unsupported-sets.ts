import { listNeededFeatures, omitFeatures } from "../../contracts/agent-protocol/agent-features.ts";
import type { DesiredSet } from "../../contracts/agent-protocol/desired-set.ts";
import type { SyncResult } from "../../contracts/agent-protocol/sync.ts";

/**
 * Omits the sets that an agent of an earlier release cannot read. It would reject the whole answer,
 * with the orders for all other sets. Such sets are on a host whose agent was rolled back. Their
 * containers continue to run, and the upgraded agent manages them again.
 *
 * A set with attachments is such a set. The agent would start it on Docker's bridge without them.
 *
 * Orders to stop or delete such a set stay, without the members that the agent does not know. An
 * answer that omits a set is not full: the agent would remove a set that a full answer omits.
 */
export function omitUnsupportedSets(answer: SyncResult): SyncResult {
  const sets = answer.sets.flatMap(
    ({ attachments, hostPorts: _hostPorts, ...set }): DesiredSet[] => {
      if (!attachments && listNeededFeatures(set.template).length === 0) return [set];
      return set.desired === "running" ? [] : [{ ...set, template: omitFeatures(set.template) }];
    },
  );
  return { ...answer, sets, full: answer.full && sets.length === answer.sets.length };
}
