import { SETS_PER_HOST_MAX } from "../../contracts/agent-protocol/protocol.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import {
  type FleetHostRow,
  type HostPoolRow,
  listChangedHosts,
  listChangedSets,
  listHostIds,
  readHorizon,
} from "../../db/queries/placement/fleet.ts";
import { assert } from "../../lib/assert.ts";
import { createFleet, type Fleet } from "../../scheduler/placement/fleet.ts";
import type {
  HostReadiness,
  HostSnapshot,
  PlanPolicy,
  PoolPolicy,
  Resources,
} from "../../scheduler/placement/model.ts";

const HOST_CENSUS_INTERVAL_MS = 60_000;
/** What was not refreshed for longer is read anew: rows of sets deleted meanwhile may be gone, which are kept for a day at least. */
const UNREFRESHED_MS_MAX = 12 * 3_600_000;

/**
 * The fleet in memory, refreshed by change instead of reloaded: each refresh asks for the rows of transactions that
 * were not over at the one before. What was seen already may come again; nothing is missed, however late it commits.
 * Hosts are deleted rarely: a census of ids once a minute finds that, or a placement that meets no row.
 *
 * Not safe for two refreshes at once; the placer, the mover and the dry run each keep their own and run one at a time.
 */
export class FleetCache {
  readonly #reportAgeMaxMs: number;
  #fleet: Fleet | undefined;
  #policy: PlanPolicy | undefined;
  #horizon = "0";
  #censusAtMs = 0;
  #refreshedAtMs = 0;
  readonly #hosts = new Map<string, { name: string; version: string }>();

  constructor(options: { reportAgeMaxMs: number }) {
    this.#reportAgeMaxMs = options.reportAgeMaxMs;
  }

  /** The fleet as of now, and the database's clock to judge reports by. Statements are pipelined into one round trip. */
  async refresh(q: Queryable): Promise<{ fleet: Fleet; policy: PlanPolicy; nowMs: number }> {
    if (Date.now() - this.#refreshedAtMs > UNREFRESHED_MS_MAX) this.reset();
    const since = this.#horizon;
    const [horizon, hosts, sets] = await Promise.all([
      readHorizon(q),
      listChangedHosts(q, since),
      listChangedSets(q, since),
    ]);
    const policy = planPolicyOf(horizon.pools, this.#reportAgeMaxMs);
    const fleet = (this.#fleet ??= createFleet(policy));
    if (this.#policy && this.#policy.version !== policy.version) fleet.setPolicy(policy);
    this.#policy = policy;
    for (const host of hosts) {
      fleet.upsertHost(hostSnapshotOf(host));
      this.#hosts.set(host.id, { name: host.name, version: host.version });
    }
    for (const set of sets) {
      if (set.hostId === null) fleet.removeSet(set.id);
      else fleet.upsertSet({ id: set.id, serviceId: set.serviceId, hostId: set.hostId });
    }
    if (horizon.nowMs - this.#censusAtMs > HOST_CENSUS_INTERVAL_MS)
      await this.#takeCensus(q, horizon.nowMs);
    this.#horizon = horizon.xmin;
    this.#refreshedAtMs = Date.now();
    return { fleet, policy, nowMs: horizon.nowMs };
  }

  /** The policy that hosts of `pool` are filled by, as of the last refresh. */
  poolPolicy(pool: string): PoolPolicy {
    return findPoolPolicy(this.#policy, pool);
  }

  hostName(hostId: string): string {
    return this.#hosts.get(hostId)?.name ?? hostId;
  }

  /** The version of the host's row (see FleetHostRow) that the fleet has. */
  hostVersion(hostId: string): string | undefined {
    return this.#hosts.get(hostId)?.version;
  }

  /** Takes hosts out of the snapshot that were found to be deleted, before the next census does. */
  forgetHosts(ids: Iterable<string>): void {
    for (const id of ids) {
      this.#fleet?.removeHost(id);
      this.#hosts.delete(id);
    }
  }

  /** Forgets everything: after an error of which it is not known what was applied. */
  reset(): void {
    this.#fleet = undefined;
    this.#horizon = "0";
    this.#censusAtMs = 0;
    this.#hosts.clear();
  }

  async #takeCensus(q: Queryable, nowMs: number): Promise<void> {
    const present = new Set(await listHostIds(q));
    this.forgetHosts([...this.#hosts.keys()].filter((id) => !present.has(id)));
    this.#censusAtMs = nowMs;
  }
}

function findPoolPolicy(policy: PlanPolicy | undefined, pool: string): PoolPolicy {
  const found = policy?.pools.find((candidate) => candidate.pool === pool);
  assert(found, `host pool ${pool} has no policy`);
  return found;
}

/** The newest version of any pool is the version of the whole: versions come from one counter. */
export function planPolicyOf(pools: readonly HostPoolRow[], reportAgeMaxMs: number): PlanPolicy {
  return {
    version: pools.reduce((newest, pool) => Math.max(newest, pool.version), 0),
    reportAgeMaxMs,
    setsPerHostMax: SETS_PER_HOST_MAX,
    pools: pools.map((pool) => ({
      pool: pool.name,
      overcommitPercent: pool.overcommitPercent,
      highWaterPercent: pool.highWaterPercent,
    })),
  };
}

/** A row as the core sees it; used for the snapshot and for the locked rows at commit alike. */
export function hostSnapshotOf(row: FleetHostRow): HostSnapshot {
  return {
    id: row.id,
    pool: row.pool,
    zone: row.zone,
    rack: row.rack,
    labels: row.labels,
    taints: row.taints,
    readiness: readinessOf(row),
    allocatable: resourcesOf(row.allocatable),
    allocated: resourcesOf(row.allocated),
    reported:
      row.reportedAtMs === null
        ? undefined
        : { used: resourcesOf(row.used), atMs: row.reportedAtMs },
    placedSinceReport: resourcesOf(row.unreported),
    reclaimableVolumeBytes: row.reclaimableVolumeBytes,
    images: row.images,
  };
}

function readinessOf(row: FleetHostRow): HostReadiness {
  if (row.state !== "ready") return row.state;
  if (row.draining) return "draining";
  return row.cordoned ? "cordoned" : "ready";
}

function resourcesOf(amounts: readonly number[]): Resources {
  const [cpuMillis, memoryBytes, volumeBytes, rootfsBytes] = amounts;
  assert(
    cpuMillis !== undefined &&
      memoryBytes !== undefined &&
      volumeBytes !== undefined &&
      rootfsBytes !== undefined,
    "a host row has four amounts",
  );
  return { cpuMillis, memoryBytes, volumeBytes, rootfsBytes };
}
