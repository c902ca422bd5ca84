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
  setPolicy(policy: PlanPolicy): void;
  /** The number of sets of a service on each host, by host id. */
  countSetsByHost(serviceId: string): ReadonlyMap<string, number>;
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

  function count(set: PlacedSet, change: 1 | -1): void {
    const onHost = (byHost.get(set.hostId) ?? 0) + change;
    if (onHost === 0) byHost.delete(set.hostId);
    else byHost.set(set.hostId, onHost);
    table?.addSets(set.hostId, change);
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
    setPolicy(next) {
      policy = next;
      table = undefined; // the capacity of every host may change
    },
    countSetsByHost: (serviceId) => byService.get(serviceId) ?? noHosts,
    table: () => (table ??= createHostTable(hosts.values(), policy, byHost)),
  };
}
