import { assert } from "../../lib/assert.ts";
import { AddressesAndPorts } from "./addresses-and-ports.ts";
import { hasBit } from "./bitmap.ts";
import {
  type FilterContext,
  type Filters,
  findRepellers,
  freshHosts,
  prepareFilters,
} from "./filters.ts";
import type { Fleet } from "./fleet.ts";
import type { PlacementConstraints, PlacementRequest, RejectReason } from "./model.ts";

/**
 * Decides which of these sets may start on one host, by all rules except capacity. Each admitted
 * set counts for the next ones. Returns the ids of the admitted sets.
 */
export function admitOnHost(
  fleet: Fleet,
  hostId: string,
  requests: readonly PlacementRequest[],
  { nowMs }: { nowMs: number },
): ReadonlySet<string> {
  const table = fleet.table();
  const rank = table.rankById.get(hostId);
  if (rank === undefined) return new Set();
  const context = createContext(fleet, requests, nowMs);
  const prepared = new Map<PlacementConstraints, Filters>(
    requests.map(({ serviceId, constraints }) => [
      constraints,
      prepareFilters(context, serviceId, constraints),
    ]),
  );
  const ports = new AddressesAndPorts(table);
  const admitted = new Set<string>();
  let setsLeft = (table.setLimits[rank] ?? 0) - (table.setCounts[rank] ?? 0);
  for (const { setId, serviceId, constraints, avoidHostIds } of requests) {
    const filters = prepared.get(constraints);
    const wanted = ports.add(constraints);
    const isAdmitted =
      filters !== undefined &&
      setsLeft > 0 &&
      !avoidHostIds.includes(hostId) &&
      hasBit(filters.allowed, rank) &&
      !ports.isPortTaken(rank, wanted) &&
      filters.spread.every((rule) => rule.admits(rank));
    if (!isAdmitted) continue;
    admitted.add(setId);
    setsLeft--;
    ports.notePlaced(rank, wanted);
    for (const other of prepared.values()) other.notePlaced(serviceId, rank);
  }
  return admitted;
}

/**
 * Lists the reasons why a host of the fleet may not start a set, except capacity. Returns an empty
 * list if `admitOnHost` would admit the set.
 */
export function listReasonsOnHost(
  fleet: Fleet,
  hostId: string,
  request: PlacementRequest,
  { nowMs }: { nowMs: number },
): RejectReason[] {
  const table = fleet.table();
  const rank = table.rankById.get(hostId);
  assert(rank !== undefined, "the host is in the fleet");
  const context = createContext(fleet, [request], nowMs);
  const reasons = prepareFilters(context, request.serviceId, request.constraints).listReasons(rank);
  if (request.avoidHostIds.includes(hostId)) reasons.push("avoided");
  const setsLeft = (table.setLimits[rank] ?? 0) - (table.setCounts[rank] ?? 0);
  if (setsLeft <= 0) reasons.push("too-many-sets");
  const ports = new AddressesAndPorts(table);
  if (ports.isPortTaken(rank, ports.add(request.constraints))) reasons.push("host-port-taken");
  return reasons;
}

function createContext(
  fleet: Fleet,
  requests: readonly PlacementRequest[],
  nowMs: number,
): FilterContext {
  const table = fleet.table();
  return {
    fleet,
    table,
    fresh: freshHosts(fleet, table, nowMs),
    bases: new Map(),
    repelledBy: findRepellers(requests),
  };
}
