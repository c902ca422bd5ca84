import { sql } from "drizzle-orm";
import { assert } from "../../../lib/assert.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { anyOf, queryRows } from "../runtime/query.ts";
import { bookedMemorySql, bookedRootfsSql } from "../hosts/bookings.ts";
import { selectFreeHosts } from "../sets/write-sets.ts";

/** A host for the planner. Amounts are float8: exact below 2^53, and numbers in both drivers. */
export interface FleetHostRow {
  id: string;
  name: string;
  pool: string;
  zone: string;
  rack: string;
  labels: Record<string, string>;
  taints: { key: string; value: string }[];
  state: "ready" | "unhealthy" | "lost";
  cordoned: boolean;
  draining: boolean;
  images: string[];
  /** The features of the agent. */
  features: string[];
  /** The number of sets that the limits of the machine admit. Null if the agent reports none. */
  setsMax: number | null;
  isSelfTestFailed: boolean;
  reportedAtMs: number | null;
  reclaimableVolumeBytes: number;
  /** This list and the next three: CPU in millicores; memory, volume and rootfs in bytes. */
  allocatable: number[];
  allocated: number[];
  unreported: number[];
  used: number[];
  /** The last transaction that changed one of these columns. Rows with equal versions are equal. */
  version: string;
}

/**
 * The trigger hosts_stamp_changed_xid sets a new version if one of them changes, except the name.
 */
const fleetHostColumns = sql`id, name, pool, zone, rack, labels, taints, state, cordoned, draining, images,
  coalesce(capabilities->'features', '[]') as features, (capabilities->>'setsMax')::float8 as "setsMax", coalesce(capabilities->'selfTest'->>'state' = 'failed', false) as "isSelfTestFailed",
  (extract(epoch from reported_at) * 1000)::float8 as "reportedAtMs",
  reclaimable_volume_bytes::float8 as "reclaimableVolumeBytes",
  json_build_array(allocatable_cpu_millis, allocatable_memory_bytes, allocatable_volume_bytes, allocatable_rootfs_bytes) as allocatable,
  json_build_array(allocated_cpu_millis, ${bookedMemorySql}, allocated_volume_bytes, ${bookedRootfsSql}) as allocated,
  json_build_array(unreported_cpu_millis, unreported_memory_bytes, unreported_volume_bytes, unreported_rootfs_bytes) as unreported,
  json_build_array(used_cpu_millis, used_memory_bytes, used_volume_bytes, used_rootfs_bytes) as used,
  changed_xid::text as version`;

/** The position from which the next refresh of a fleet in memory reads. */
export interface RefreshPosition {
  /** The oldest transaction that may still be running. */
  xmin: string;
  /** The start of the Postgres server. After a failover it is another one. */
  serverStartedAt: string;
  /** The database's clock. */
  nowMs: number;
  pools: HostPoolRow[];
  /** At most CLAIMS_MAX. */
  claims: FleetClaimRow[];
}

/** A set with a booking on its next host that is still on another one. */
interface FleetClaimRow {
  id: string;
  serviceId: string;
  hostId: string;
}

/** Sets of services with a disruption budget claim few hosts, so a fleet has far fewer claims. */
const CLAIMS_MAX = 10_000;

/**
 * Reads the current position. Call it before reading changes, so that no refresh misses one. A set
 * that is placed on its claimed host meanwhile is in the claims, the changes, or both.
 */
export async function readRefreshPosition(q: Queryable): Promise<RefreshPosition> {
  const [position] = await queryRows<RefreshPosition>(
    q,
    sql`select pg_snapshot_xmin(pg_current_snapshot())::text as xmin,
          extract(epoch from pg_postmaster_start_time())::text as "serverStartedAt",
          (extract(epoch from clock_timestamp()) * 1000)::float8 as "nowMs",
          (select coalesce(json_agg(p), '[]') from (${hostPools}) p) as pools,
          (select coalesce(json_agg(json_build_object('id', c.set_id, 'hostId', c.host_id,
              'serviceId', (select service_id from sets where id = c.set_id))), '[]')
            from (select set_id, host_id from claims limit ${sql.raw(String(CLAIMS_MAX))}) c) as claims`,
  );
  assert(position, "a select without a table gives a row");
  return position;
}

/**
 * SQL condition: the row was changed by a transaction that was still running at the position
 * `xmin`. Each visible transaction is below xmax, except the one that reads. Rows that pg_restore
 * wrote may have higher ids.
 */
const changedSinceSql = (xmin: string) =>
  sql`changed_xid >= ${xmin}::xid8 and changed_xid < pg_snapshot_xmax(pg_current_snapshot())`;

/**
 * Lists hosts changed by a transaction that was still running at `xmin`. Uses hosts_changed_xid.
 * The transaction of the caller has not written before.
 */
export async function listChangedHosts(q: Queryable, xmin: string): Promise<FleetHostRow[]> {
  return queryRows(q, sql`select ${fleetHostColumns} from hosts where ${changedSinceSql(xmin)}`);
}

export interface FleetSetRow {
  id: string;
  serviceId: string;
  /** Null if the set has left its host. */
  hostId: string | null;
}

/**
 * Lists sets whose host was changed by a transaction that was still running at `xmin`. Uses
 * sets_changed_xid. The transaction of the caller has not written before.
 */
export async function listChangedSets(q: Queryable, xmin: string): Promise<FleetSetRow[]> {
  return queryRows(
    q,
    sql`select id, service_id as "serviceId", host_id as "hostId" from sets
        where changed_xid is not null and ${changedSinceSql(xmin)}`,
  );
}

/** Lists a page of all hosts, in the order of their ids. */
export async function listHostsAfter(
  q: Queryable,
  { afterId, limit }: { afterId: string; limit: number },
): Promise<FleetHostRow[]> {
  return queryRows(
    q,
    sql`select ${fleetHostColumns} from hosts where id > ${afterId} order by id limit ${limit}`,
  );
}

/**
 * Lists the sets on these hosts. Uses sets_host, so it reads no set without a host.
 */
export async function listSetsOnHosts(
  q: Queryable,
  hostIds: readonly string[],
): Promise<FleetSetRow[]> {
  if (hostIds.length === 0) return [];
  return queryRows(
    q,
    sql`select id, service_id as "serviceId", host_id as "hostId" from sets
        where host_id is not null and host_id = ${anyOf(hostIds)}`,
  );
}

/** Lists the sets of a service that are on a host. The quota of its tenant bounds them. */
export async function listPlacedSets(q: Queryable, serviceId: string): Promise<FleetSetRow[]> {
  return queryRows(
    q,
    sql`select id, service_id as "serviceId", host_id as "hostId" from sets
        where service_id = ${serviceId} and host_id is not null`,
  );
}

/** Lists the ids of all hosts. A host in memory that is not among them was deleted. */
export async function listHostIds(q: Queryable): Promise<string[]> {
  const rows = await queryRows<{ id: string }>(q, sql`select id from hosts`);
  return rows.map((row) => row.id);
}

export interface HostPoolRow {
  name: string;
  version: number;
  overcommitPercent: {
    cpuMillis: number;
    memoryBytes: number;
    volumeBytes: number;
    rootfsBytes: number;
  };
  highWaterPercent: {
    cpuMillis: number;
    memoryBytes: number;
    volumeBytes: number;
    rootfsBytes: number;
  };
  /** Ready hosts whose self test failed. */
  failedSelfTests: number;
  /** Read only for a pool with failed self tests, and 0 for others. */
  readyHosts: number;
}

/** Failed hosts come from the index hosts_self_test_failed, so usually this counts no hosts. */
const hostPools = sql`select name, version::float8 as version, overcommit_percent as "overcommitPercent",
  high_water_percent as "highWaterPercent", coalesce(failed.hosts, 0) as "failedSelfTests",
  case when failed.hosts is null then 0
    else (select count(*)::int from hosts where pool = host_pools.name and state = 'ready') end as "readyHosts"
  from host_pools left join (select pool, count(*)::int as hosts from hosts
    where capabilities->'selfTest'->>'state' = 'failed' and state = 'ready' group by pool) failed on failed.pool = host_pools.name
  order by name limit 10000`;

export async function listAllHostPools(q: Queryable): Promise<HostPoolRow[]> {
  return queryRows(q, hostPools);
}

/**
 * Reads hosts without locking them: for a check that a later transaction repeats on locked rows.
 */
export async function listFleetHosts(
  q: Queryable,
  hostIds: readonly string[],
): Promise<FleetHostRow[]> {
  return queryRows(
    q,
    sql`select ${fleetHostColumns} from hosts where id = ${anyOf(hostIds)} order by id`,
  );
}

/** Locks those of the hosts that no other transaction has locked, and reads their current rows. */
export async function tryLockFleetHosts(
  q: Queryable,
  hostIds: readonly string[],
): Promise<FleetHostRow[]> {
  return queryRows(q, selectFreeHosts(fleetHostColumns, hostIds));
}

/** Locks hosts in id order, and reads their current rows. */
export async function lockFleetHosts(
  q: Queryable,
  hostIds: readonly string[],
): Promise<FleetHostRow[]> {
  return queryRows(
    q,
    sql`select ${fleetHostColumns} from hosts
        where id = ${anyOf(hostIds)}
        order by id for no key update`,
  );
}
