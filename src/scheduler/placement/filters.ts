import { type Bitmap, clearBit, countBits, newBitmap, setBit } from "./bitmap.ts";
import type { Fleet } from "./fleet.ts";
import type { Eligible, HostTable } from "./host-table.ts";
import type { HostSnapshot, PlacementConstraints, RejectReason } from "./model.ts";
import {
  createSpreadRule,
  domainsBy,
  findOpenDomains,
  type OpenDomains,
  type SpreadRule,
} from "./spread-rule.ts";

/**
 * Everything but room that decides whether a host may take a set of one service under its constraints. Made once a plan for
 * each, and kept up to date by the placements of the plan.
 */
export interface Filters {
  /** Hosts that nothing but room and spread rules out. */
  readonly allowed: Bitmap;
  readonly spread: readonly SpreadRule[];
  /** Services of which another placement changes what is allowed. */
  readonly heardServices: ReadonlySet<string>;
  /** A set of `serviceId` went to this host in this plan. */
  notePlaced(serviceId: string, rank: number): void;
  /** On how many hosts each reason holds, but for room and being avoided. Costs nothing that grows with the fleet. */
  countAgainst(): Map<RejectReason, number>;
}

export interface FilterContext {
  fleet: Fleet;
  table: HostTable;
  /** Hosts whose report is recent enough. */
  fresh: Bitmap;
  /** Eligible and fresh hosts by what makes them eligible, with the domains that they span: shared by services alike. */
  bases: Map<Bitmap, Base>;
  /** By service, those that ask in this plan not to share a host with it. */
  repelledBy: ReadonlyMap<string, ReadonlySet<string>>;
}

interface Base {
  allowed: Bitmap;
  against: ReadonlyMap<RejectReason, number>;
  openDomains: Map<string, OpenDomains>;
}

/** Hosts that were heard of recently: what others report may be anything by now (I12). */
export function freshHosts(fleet: Fleet, table: HostTable, nowMs: number): Bitmap {
  const fresh = newBitmap(table.hosts.length);
  const oldestMs = nowMs - fleet.policy.reportAgeMaxMs;
  const { reportedAtMs } = table;
  for (let rank = 0; rank < reportedAtMs.length; rank++) {
    if ((reportedAtMs[rank] as number) >= oldestMs) setBit(fresh, rank);
  }
  return fresh;
}

export function prepareFilters(
  context: FilterContext,
  serviceId: string,
  constraints: PlacementConstraints,
): Filters {
  const { fleet, table } = context;
  const base = baseOf(context, constraints);
  const hostileServices = new Set(constraints.antiAffinity);
  for (const other of context.repelledBy.get(serviceId) ?? []) hostileServices.add(other);
  const allowed = hostileServices.size === 0 ? base.allowed : base.allowed.slice();
  const spread = constraints.spread.map((rule) => {
    const domains = domainsBy(rule.by, table);
    const open = base.openDomains.get(rule.by) ?? findOpenDomains(domains, base.allowed);
    base.openDomains.set(rule.by, open);
    return createSpreadRule(rule, {
      table,
      domains,
      open,
      placed: fleet.hostsOfService(serviceId),
    });
  });
  const hostile = newBitmap(table.hosts.length);
  const repel = (rank: number) => {
    setBit(hostile, rank);
    clearBit(allowed, rank);
  };
  for (const other of hostileServices) {
    for (const hostId of fleet.hostsOfService(other).keys()) {
      const rank = table.rankOf.get(hostId);
      if (rank !== undefined) repel(rank);
    }
  }
  return {
    allowed,
    spread,
    heardServices: spread.length === 0 ? hostileServices : new Set([...hostileServices, serviceId]),
    notePlaced(placedServiceId, rank) {
      if (hostileServices.has(placedServiceId)) repel(rank);
      if (placedServiceId === serviceId) for (const rule of spread) rule.notePlaced(rank);
    },
    countAgainst() {
      const counts = new Map(base.against);
      counts.set("anti-affinity", countBits(hostile));
      for (const rule of spread) counts.set(rule.reason, rule.countAgainst());
      return counts;
    },
  };
}

function baseOf(context: FilterContext, constraints: PlacementConstraints): Base {
  const eligible = eligibleHosts(context.table, constraints);
  let base = context.bases.get(eligible.hosts);
  if (!base) {
    const allowed = eligible.hosts.map((word, i) => word & (context.fresh[i] as number));
    const staleHosts = context.table.hosts.length - countBits(context.fresh);
    const against = new Map(eligible.against).set("report-stale", staleHosts);
    base = { allowed, against, openDomains: new Map() };
    context.bases.set(eligible.hosts, base);
  }
  return base;
}

/** Hosts that are ready, of the pool, and have the labels and no unwelcome taint; found once for all services alike. */
function eligibleHosts(table: HostTable, constraints: PlacementConstraints): Eligible {
  const { pool, hostLabels, tolerations } = constraints;
  const key = JSON.stringify([
    pool,
    Object.entries(hostLabels).sort(([a], [b]) => (a < b ? -1 : 1)),
    tolerations,
  ]);
  const known = table.eligible.get(key);
  if (known) return known;
  const hosts = newBitmap(table.hosts.length);
  const against = new Map<RejectReason, number>();
  for (const [rank, host] of table.hosts.entries()) {
    const reasons = standingReasons(host, constraints);
    if (reasons.length === 0) setBit(hosts, rank);
    for (const reason of reasons) against.set(reason, (against.get(reason) ?? 0) + 1);
  }
  const eligible = { hosts, against };
  table.eligible.set(key, eligible);
  return eligible;
}

/** What rules a host out whatever the time and whatever else is placed. */
function standingReasons(host: HostSnapshot, constraints: PlacementConstraints): RejectReason[] {
  const reasons: RejectReason[] = [];
  if (host.readiness !== "ready") reasons.push(`host-${host.readiness}`);
  if (host.pool !== constraints.pool) reasons.push("other-pool");
  if (Object.entries(constraints.hostLabels).some(([key, value]) => host.labels[key] !== value)) {
    reasons.push("label-mismatch");
  }
  const isTolerated = (taint: { key: string; value: string }) =>
    constraints.tolerations.some(({ key, value }) => key === taint.key && value === taint.value);
  if (!host.taints.every(isTolerated)) reasons.push("taint-not-tolerated");
  return reasons;
}
