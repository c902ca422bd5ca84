import { fixedHostPort, listPublished } from "../../contracts/api/template-ports.ts";
import type { ObservedSet } from "../../contracts/agent-protocol/observed-set.ts";
import {
  listPortsOfSets,
  listUsedHostPorts,
  updateHostPorts,
} from "../../db/queries/placement/host-ports.ts";
import type { ControlContext, UnitOfWork } from "../runtime/context.ts";
import { assignHostPorts } from "./assign-host-ports.ts";

/** The rows of reported sets, and the ids of those that a user alone may move: see ReportedRows. */
interface ReportedSets {
  rows: readonly { id: string; generation: number }[];
  bound: readonly string[];
}

/** The reason of an agent whose host has another program at a host port of a set. */
const HOST_PORT_TAKEN = "host-port-taken";

/**
 * Replaces the host ports of sets whose start the agent abandoned because another program has one
 * of them. This covers only sets that stay on the host with their volume. Ports that the template
 * fixes stay. The caller has locked the host and the sets.
 *
 * The agent reports this at most once for each generation of a set, after three attempts. Without
 * such a set it sends no statement.
 */
export async function replaceHostPorts(
  tx: UnitOfWork,
  { settings }: Pick<ControlContext, "settings">,
  hostId: string,
  { observed, reported }: { observed: readonly ObservedSet[]; reported: ReportedSets },
): Promise<void> {
  const generations = new Map(reported.rows.map(({ id, generation }) => [id, generation]));
  const setIds = observed.flatMap(({ setId, gaveUp, reason, generation }) => {
    const isTaken = gaveUp && reason?.code === HOST_PORT_TAKEN && reported.bound.includes(setId);
    return isTaken && generations.get(setId) === generation ? setId : [];
  });
  if (setIds.length === 0) return;
  const [sets, used] = await Promise.all([
    listPortsOfSets(tx, setIds),
    listUsedHostPorts(tx, [hostId]),
  ]);
  const needs = sets.map(({ setId, generation, ports }) => ({
    setId,
    hostId,
    generation: generation + 1,
    ports: listPublished(ports).filter((port) => fixedHostPort(port) === undefined),
  }));
  const chosen = assignHostPorts(needs, used, settings.hostPortRange);
  if (chosen.length === 0) return;
  await updateHostPorts(tx, hostId, chosen);
  tx.signal(`host:${hostId}`);
}
