import { createHostTable, type HostTable } from "./host-table.ts";
import type { HostSnapshot, PlacedSet, PlanPolicy } from "./model.ts";

/**
 * The hosts and their sets, which a job worker caches in memory and refreshes by change. Plans
 * depend on the present hosts and sets only, and not on their history.
 */
export interface Fleet {
  readonly policy: PlanPolicy;
  readonly hostCount: number;
  readonly setCount: number;
  getHost(id: string): HostSnapshot | undefined;
  upsertHost(host: HostSnapshot): void;
  removeHost(id: string): void;
  upsertSet(set: PlacedSet): void;
  removeSet(id: string): void;
  /** Replaces all claims. A claim is a set that has booked a host and is still on another one. */
  setClaims(claims: readonly PlacedSet[]): void;
  /** Removes the claims of these sets. */
  removeClaims(setIds: Iterable<string>): void;
  setPolicy(policy: PlanPolicy): void;
  /** The number of sets of a service on each host, by host id. */
  countSetsByHost(serviceId: string): ReadonlyMap<string, number>;
  /**
   * The hosts with a claim of a set of the service. Claims count for anti-affinity and for the
   * maximum number of sets, but not for spread.
   */
  listClaimedHosts(serviceId: string): Iterable<string>;
  /** The hosts as the planner reads them. Valid until the next change of the fleet. */
  table(): HostTable;
}

const noHosts: ReadonlyMap<string, number> = new Map();

export function createFleet(initialPolicy: PlanPolicy): Fleet {
  let policy = initialPolicy;
  let table: HostTable | undefined;
  const hosts = new Map<string, HostSnapshot>();
  const sets = new Map<string, PlacedSet>();
  const byService = new Map<string, Map<string, number>>();
  const byHost = new Map<string, number>();
  const claims = createClaims(countOnHost);

  function countOnHost(hostId: string, change: 1 | -1): void {
    const onHost = (byHost.get(hostId) ?? 0) + change;
    if (onHost === 0) byHost.delete(hostId);
    else byHost.set(hostId, onHost);
    table?.addSets(hostId, change);
  }

  function count(set: PlacedSet, change: 1 | -1): void {
    countOnHost(set.hostId, change);
    const onHosts = byService.get(set.serviceId) ?? new Map<string, number>();
    const after = (onHosts.get(set.hostId) ?? 0) + change;
    if (after === 0) onHosts.delete(set.hostId);
    else onHosts.set(set.hostId, after);
    if (onHosts.size === 0) byService.delete(set.serviceId);
    else byService.set(set.serviceId, onHosts);
  }

  function removeSet(id: string): void {
    const before = sets.get(id);
    if (!before) return;
    sets.delete(id);
    count(before, -1);
  }

  return {
    get policy() {
      return policy;
    },
    get hostCount() {
      return hosts.size;
    },
    get setCount() {
      return sets.size;
    },
    getHost: (id) => hosts.get(id),
    upsertHost(host) {
      hosts.set(host.id, host);
      if (table && !table.update(host)) table = undefined;
    },
    removeHost(id) {
      if (hosts.delete(id)) table = undefined;
    },
    upsertSet(set) {
      removeSet(set.id);
      sets.set(set.id, set);
      count(set, 1);
    },
    removeSet,
    setClaims: claims.set,
    removeClaims: claims.remove,
    setPolicy(next) {
      policy = next;
      table = undefined; // the capacity of every host may change
    },
    countSetsByHost: (serviceId) => byService.get(serviceId) ?? noHosts,
    listClaimedHosts: claims.listHosts,
    table: () => (table ??= createHostTable(hosts.values(), policy, byHost)),
  };
}

interface Claims {
  set(this: void, claims: readonly PlacedSet[]): void;
  remove(this: void, setIds: Iterable<string>): void;
  listHosts(this: void, serviceId: string): readonly string[];
}

/** @param countOnHost counts a claim as a set of its host, or stops counting it */
function createClaims(countOnHost: (hostId: string, change: 1 | -1) => void): Claims {
  const claims = new Map<string, PlacedSet>();
  /** Undefined if the claims have changed. */
  let hosts: ReadonlyMap<string, readonly string[]> | undefined;

  function remove(setIds: Iterable<string>): void {
    hosts = undefined;
    for (const id of setIds) {
      const claim = claims.get(id);
      if (claim && claims.delete(id)) countOnHost(claim.hostId, -1);
    }
  }

  return {
    set(next) {
      remove([...claims.keys()]);
      for (const claim of next) {
        claims.set(claim.id, claim);
        countOnHost(claim.hostId, 1);
      }
    },
    remove,
    listHosts(serviceId) {
      hosts ??= groupHosts(claims.values());
      return hosts.get(serviceId) ?? [];
    },
  };
}

/** The hosts of the claims, by service. */
function groupHosts(claims: Iterable<PlacedSet>): ReadonlyMap<string, readonly string[]> {
  const hostIds = new Map<string, string[]>();
  for (const { serviceId, hostId } of claims)
    hostIds.set(serviceId, [...(hostIds.get(serviceId) ?? []), hostId]);
  return hostIds;
}
