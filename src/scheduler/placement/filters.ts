import { assert } from "../../lib/assert.ts";
import { type Bitmap, clearBit, countBits, hasBit, newBitmap, setBit } from "./bitmap.ts";
import type { Fleet } from "./fleet.ts";
import type { Eligible, HostTable } from "./host-table.ts";
import {
  type HostSnapshot,
  NETWORKS_FEATURE,
  type PlacementConstraints,
  type PlacementRequest,
  PUBLISHING_FEATURE,
  type RejectReason,
} from "./model.ts";
import {
  createSpreadRule,
  domainsBy,
  findOpenDomains,
  type OpenDomains,
  type SpreadRule,
} from "./spread-rule.ts";

/**
 * The rules, except capacity, that decide whether a host may take a set of one service. A plan
 * creates them once for each service and constraints, and each of its placements updates them.
 */
export interface Filters {
  /** Hosts that only capacity or spread may rule out. */
  readonly allowed: Bitmap;
  /** The required rules. */
  readonly spread: readonly SpreadRule[];
  /** Rules that rule out no host. See PreferredSpread. */
  readonly preferredSpread: readonly SpreadRule[];
  /** Services whose placements change `allowed` or a spread rule. */
  readonly watchedServices: ReadonlySet<string>;
  /** Records that this plan has placed a set of `serviceId` on a host. */
  notePlaced(serviceId: string, rank: number): void;
  /** Stops counting a set of `serviceId` on a host for spread, or counts it again. */
  noteReplaced(serviceId: string, rank: number, change: -1 | 1): void;
  /**
   * Counts the hosts of each reason, except capacity and avoided hosts. The cost does not grow with
   * the fleet.
   */
  countAgainst(): Map<RejectReason, number>;
  /** Lists the reasons against one host, except capacity and avoided hosts. */
  listReasons(rank: number): RejectReason[];
}

export interface FilterContext {
  fleet: Fleet;
  table: HostTable;
  /** Hosts with a recent report. */
  fresh: Bitmap;
  /**
   * Eligible hosts with a recent report, and their open domains. Services with one description
   * share them.
   */
  bases: Map<Bitmap, Base>;
  /** For each service, the services of this plan that forbid it on their hosts. */
  repelledBy: ReadonlyMap<string, ReadonlySet<string>>;
}

interface Base {
  allowed: Bitmap;
  against: ReadonlyMap<RejectReason, number>;
  openDomains: Map<string, OpenDomains>;
}

/**
 * Finds the hosts with a recent report. The reports of other hosts do not show their present use
 * (I12).
 */
export function freshHosts(fleet: Fleet, table: HostTable, nowMs: number): Bitmap {
  const fresh = newBitmap(table.hosts.length);
  const oldestMs = nowMs - fleet.policy.reportAgeMaxMs;
  const { reportedAtMs } = table;
  for (let rank = 0; rank < reportedAtMs.length; rank++) {
    if ((reportedAtMs[rank] as number) >= oldestMs) setBit(fresh, rank);
  }
  return fresh;
}

/**
 * For each service, the services of this plan that forbid it on their hosts. One of two services
 * may state the rule for both.
 */
export function findRepellers(requests: readonly PlacementRequest[]): Map<string, Set<string>> {
  const repelledBy = new Map<string, Set<string>>();
  let seen: PlacementRequest | undefined; // equal sets follow each other
  for (const request of requests) {
    const { constraints, serviceId } = request;
    if (constraints === seen?.constraints && serviceId === seen.serviceId) continue;
    seen = request;
    for (const other of constraints.antiAffinity)
      repelledBy.set(other, (repelledBy.get(other) ?? new Set()).add(serviceId));
  }
  return repelledBy;
}

export function prepareFilters(
  context: FilterContext,
  serviceId: string,
  constraints: PlacementConstraints,
): Filters {
  const { fleet, table } = context;
  const base = prepareBase(context, constraints);
  const hostileServices = new Set(constraints.antiAffinity);
  for (const other of context.repelledBy.get(serviceId) ?? []) hostileServices.add(other);
  const allowed = hostileServices.size === 0 ? base.allowed : base.allowed.slice();
  const rules = constraints.spread.map((rule) => {
    const domains = domainsBy(rule.by, table);
    const open = base.openDomains.get(rule.by) ?? findOpenDomains(domains, base.allowed);
    base.openDomains.set(rule.by, open);
    const placed = countStaying(fleet.countSetsByHost(serviceId), constraints.uncountedSets);
    const { mode = "required" } = rule;
    return { mode, rule: createSpreadRule(rule, { table, domains, open, placed }) };
  });
  const ofMode = (wanted: (typeof rules)[number]["mode"]) =>
    rules.flatMap(({ mode, rule }) => (mode === wanted ? rule : []));
  const spread = ofMode("required");
  const hostile = newBitmap(table.hosts.length);
  const repel = (rank: number) => {
    setBit(hostile, rank);
    clearBit(allowed, rank);
  };
  const repelOn = (hostIds: Iterable<string>) => {
    for (const hostId of hostIds) {
      const rank = table.rankById.get(hostId);
      if (rank !== undefined) repel(rank);
    }
  };
  for (const other of hostileServices) {
    repelOn(fleet.countSetsByHost(other).keys());
    repelOn(fleet.listClaimedHosts(other));
  }
  return {
    allowed,
    spread,
    preferredSpread: ofMode("preferred"),
    watchedServices:
      rules.length === 0 ? hostileServices : new Set([...hostileServices, serviceId]),
    notePlaced(placedServiceId, rank) {
      if (hostileServices.has(placedServiceId)) repel(rank);
      if (placedServiceId === serviceId) for (const { rule } of rules) rule.notePlaced(rank);
    },
    noteReplaced(ofServiceId, rank, change) {
      if (ofServiceId !== serviceId) return;
      for (const { rule } of rules) {
        if (change === 1) rule.notePlaced(rank);
        else rule.noteReplaced(rank);
      }
    },
    countAgainst() {
      const counts = new Map(base.against);
      counts.set("anti-affinity", countBits(hostile));
      for (const rule of spread) counts.set(rule.reason, rule.countAgainst());
      return counts;
    },
    listReasons(rank) {
      const host = table.hosts[rank];
      assert(host, "each rank has a host");
      const reasons = permanentReasons(host, constraints);
      if (!hasBit(context.fresh, rank)) reasons.push("report-stale");
      if (hasBit(hostile, rank)) reasons.push("anti-affinity");
      for (const rule of spread) if (!rule.admits(rank)) reasons.push(rule.reason);
      return reasons;
    },
  };
}

/** Counts the sets on each host without departing ones (see PlacementConstraints). */
function countStaying(
  placed: ReadonlyMap<string, number>,
  uncountedSets: ReadonlyMap<string, number>,
): ReadonlyMap<string, number> {
  if (uncountedSets.size === 0) return placed;
  const staying = new Map(placed);
  for (const [hostId, sets] of uncountedSets)
    staying.set(hostId, Math.max(0, (staying.get(hostId) ?? 0) - sets));
  return staying;
}

function prepareBase(context: FilterContext, constraints: PlacementConstraints): Base {
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

/**
 * Finds the ready hosts of the pool with the required labels and without other taints. Caches them
 * by description.
 */
function eligibleHosts(table: HostTable, constraints: PlacementConstraints): Eligible {
  const { pool, hostLabels, tolerations } = constraints;
  const key = JSON.stringify([
    pool,
    Object.entries(hostLabels).sort(([a], [b]) => (a < b ? -1 : 1)),
    tolerations,
    constraints.features,
  ]);
  const known = table.eligible.get(key);
  if (known) return known;
  const hosts = newBitmap(table.hosts.length);
  const against = new Map<RejectReason, number>();
  for (const [rank, host] of table.hosts.entries()) {
    const reasons = permanentReasons(host, constraints);
    if (reasons.length === 0) setBit(hosts, rank);
    for (const reason of reasons) against.set(reason, (against.get(reason) ?? 0) + 1);
  }
  const eligible = { hosts, against };
  table.eligible.set(key, eligible);
  return eligible;
}

/** Whether the agent of a host has all these features. */
export function hasFeatures(
  host: Pick<HostSnapshot, "features">,
  needed: readonly string[],
): boolean {
  // Most templates need none, and this runs for each host.
  if (needed.length === 0) return true;
  return needed.every((feature) => host.features.includes(feature));
}

/** The reasons that rule a host out at any time and after any placement. */
function permanentReasons(host: HostSnapshot, constraints: PlacementConstraints): RejectReason[] {
  const reasons: RejectReason[] = [];
  if (host.readiness !== "ready") reasons.push(`host-${host.readiness}`);
  reasons.push(...featureReasons(host, constraints.features));
  if (host.pool !== constraints.pool) reasons.push("other-pool");
  if (Object.entries(constraints.hostLabels).some(([key, value]) => host.labels[key] !== value)) {
    reasons.push("label-mismatch");
  }
  const isTolerated = (taint: { key: string; value: string }) =>
    constraints.tolerations.some(({ key, value }) => key === taint.key && value === taint.value);
  if (!host.taints.every(isTolerated)) reasons.push("taint-not-tolerated");
  return reasons;
}

/** The reasons for features that depend on the host. The others depend on its agent. */
const hostFeatures: Readonly<Record<string, RejectReason>> = {
  [NETWORKS_FEATURE]: "networks-unavailable",
  [PUBLISHING_FEATURE]: "publishing-unavailable",
};

function featureReasons(host: HostSnapshot, needed: readonly string[]): RejectReason[] {
  if (hasFeatures(host, needed)) return [];
  const missing = needed.filter((feature) => !host.features.includes(feature));
  const reasons = missing.map((feature) => hostFeatures[feature] ?? "agent-too-old");
  return [...new Set(reasons)].sort();
}
