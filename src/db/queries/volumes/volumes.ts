import { and, eq, gt, isNotNull, type SQL, sql } from "drizzle-orm";
import type {
  ReportedVolume,
  UnreadableVolume,
  Volume,
  VolumeState,
} from "../../../contracts/api/volumes.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { hosts } from "../../schema/hosts.ts";
import { sets } from "../../schema/sets.ts";
import { tenants } from "../../schema/tenancy.ts";
import { volumes } from "../../schema/volumes.ts";
import { anyOf, readByKey, queryRows } from "../runtime/query.ts";
import { inScope } from "../services/read-services.ts";

/** A change of a volume since the previous report of its host. */
export interface VolumeChangeRow {
  change: "trashed" | "restored" | "not-purged" | "purged" | "missing";
  volumeId: string;
  tenantId: string;
  /** Null if the service no longer exists. */
  serviceId: string | null;
  setId: string | null;
  /** The end of a trashed volume's retention, such as "2026-12-01 10:00 UTC". */
  expiresAt: string | null;
  /** Why the host did not purge a volume. */
  reason: string | null;
}

interface StoredReport {
  /** The changes since the previous report of the host. */
  changes: VolumeChangeRow[];
  /** Names in the report that no tenant has, sorted, without duplicates. */
  unknownTenants: string[];
}

/**
 * Stores a host's report of its volumes, and returns at most `unknownTenantsMax` unknown tenants. A
 * volume that a complete report does not name no longer exists on the host. An unreadable volume
 * and one of an unknown tenant retain their rows. A volume that another host has reported stays
 * with that host. The statement neither writes nor locks a volume that has not changed. `on
 * conflict` locks a row before it evaluates its condition. The caller has locked the host.
 */
export async function storeHostVolumes(
  q: Queryable,
  hostId: string,
  reported: readonly (ReportedVolume | UnreadableVolume)[],
  { isComplete, unknownTenantsMax }: { isComplete: boolean; unknownTenantsMax: number },
): Promise<StoredReport> {
  const rows = await queryRows<VolumeChangeRow | { change: "unknown-tenant"; tenant: string }>(
    q,
    sql`
    with named as materialized (
      select r.*, t.id as tenant_id from json_to_recordset(${JSON.stringify(reported)}::json) as r("volumeId" text, "setId" text,
        tenant text, service text, state text, "sizeBytes" bigint, "usedBytes" bigint, "trashedAt" timestamptz, "expiresAt" timestamptz,
        reason jsonb)
      left join tenants t on t.name = r.tenant
    ), reported as (
      select * from named where tenant_id is not null
    ), before as (
      select id, state, set_id, tenant_id, service, expires_at, reason from volumes where host_id = ${hostId}
    ), changed as (
      select r."volumeId", r.tenant_id, r.service, r."setId", r.state, r."sizeBytes", r."usedBytes", r."trashedAt", r."expiresAt",
        r.reason
      from reported r left join volumes v on v.id = r."volumeId"
      where v.id is null or (v.host_id = ${hostId}
        and ((v.tenant_id, v.service, v.set_id, v.state, v.size_bytes, v.used_bytes, v.trashed_at, v.expires_at, v.reason)
          is distinct from (r.tenant_id, r.service, r."setId", r.state, r."sizeBytes", r."usedBytes", r."trashedAt", r."expiresAt",
            r.reason)
          or (r.state <> 'trashed' and v.purge_asked_at is not null)))
    ), stored as (
      insert into volumes as v (id, host_id, tenant_id, service, set_id, state, size_bytes, used_bytes, trashed_at, expires_at, reason)
      select "volumeId", ${hostId}, tenant_id, service, "setId", state, "sizeBytes", "usedBytes", "trashedAt", "expiresAt", reason
      from changed
      on conflict (id) do update set tenant_id = excluded.tenant_id, service = excluded.service, set_id = excluded.set_id,
        state = excluded.state, size_bytes = excluded.size_bytes, used_bytes = excluded.used_bytes,
        trashed_at = excluded.trashed_at, expires_at = excluded.expires_at, reported_at = now(),
        reason = excluded.reason, purge_asked_at = case when excluded.state = 'trashed' then v.purge_asked_at end
      where v.host_id = excluded.host_id
    ), deleted as (
      delete from volumes where host_id = ${hostId} and id not in (select "volumeId" from named)
        and ${isComplete}
      returning id, state, set_id, tenant_id, service
    ), changes as (
      select case r.state when 'trashed' then 'trashed' else 'restored' end as change, r."volumeId" as id, r.tenant_id,
        r.service, r."setId" as set_id, r."expiresAt" as expires_at, null as reason
      from reported r join before b on b.id = r."volumeId"
      where case r.state when 'trashed' then r."expiresAt" is not null and (b.state <> 'trashed' or b.expires_at is null)
        else b.state <> r.state end
      union all
      select 'not-purged', r."volumeId", r.tenant_id, r.service, r."setId", null, r.reason->>'text'
      from reported r join before b on b.id = r."volumeId" where r.reason->>'text' is distinct from b.reason->>'text'
        and r.reason->>'text' is not null
      union all
      select case state when 'trashed' then 'purged' else 'missing' end, id, tenant_id, service, set_id, null, null
      from deleted
    ), unknown as (
      select distinct tenant from named where tenant is not null and tenant_id is null order by tenant limit ${unknownTenantsMax}
    )
    select c.change, c.id as "volumeId", c.tenant_id as "tenantId", s.id as "serviceId", c.set_id as "setId",
      to_char(c.expires_at at time zone 'utc', 'YYYY-MM-DD HH24:MI "UTC"') as "expiresAt", c.reason, null as tenant
    from changes c left join services s on s.tenant_id = c.tenant_id and s.name = c.service and s.deleted_at is null
    union all
    select 'unknown-tenant', null, null, null, null, null, null, tenant from unknown`,
  );
  return {
    changes: rows.filter((row) => row.change !== "unknown-tenant"),
    unknownTenants: rows.flatMap((row) => (row.change === "unknown-tenant" ? row.tenant : [])),
  };
}

/** Lists volumes of a host whose purge was requested. */
export async function listPurges(q: Queryable, hostId: string, limit: number): Promise<string[]> {
  const rows = await readByKey<{ id: string }>(
    q,
    sql`select id from volumes where host_id = ${hostId} and purge_asked_at is not null order by id limit ${limit}`,
  );
  return rows.map(({ id }) => id);
}

/**
 * Requests the purge of a trashed volume: the next answer to its host contains the purge. Returns
 * false if the volume is not in the trash, or if a set restores it. The caller has locked the host.
 */
export async function requestPurge(q: Queryable, volumeId: string): Promise<boolean> {
  const rows = await queryRows<{ id: string }>(
    q,
    sql`with requested as (
          update volumes v set purge_asked_at = coalesce(purge_asked_at, now())
          where id = ${volumeId} and state = 'trashed' and not ${beingRestoredSql} returning id, host_id
        ), host as (
          update hosts set generation = generation + 1 where id in (select host_id from requested)
        )
        select id from requested`,
  );
  return rows.length === 1;
}

/**
 * Whether a set may restore a trashed volume: its retention has not ended, and no purge and no
 * other restore is in progress. The caller has locked the host.
 */
export async function isRestorable(q: Queryable, volumeId: string): Promise<boolean> {
  const rows = await queryRows<{ id: string }>(
    q,
    sql`select id from volumes v where id = ${volumeId} and state = 'trashed' and purge_asked_at is null
          and coalesce(expires_at > now(), true) and not ${beingRestoredSql}`,
  );
  return rows.length === 1;
}

/** SQL condition: a set waits to restore volume `v`. */
const beingRestoredSql = sql`exists (
  select 1 from sets where restore_volume_id = v.id and deleted_at is null and desired <> 'deleted')`;

/**
 * SQL condition: set `s` has volume data on its host, or waits to restore a volume. A set that has
 * run since its placement counts even before its host reports the volume (I13). See mayLeaveVolume.
 */
export const volumeDataSql = sql`(s.restore_volume_id is not null
  or (s.volume_bytes > 0 and s.running_at is not null)
  or exists (select 1 from volumes held where held.host_id = s.host_id and held.set_id = s.id and held.state = 'live'))`;

/** Lists those of the named sets that have volume data on the host. */
export async function listSetsWithVolume(
  q: Queryable,
  hostId: string,
  setIds: readonly string[],
): Promise<string[]> {
  if (setIds.length === 0) return [];
  const rows = await queryRows<{ id: string }>(
    q,
    sql`select s.id from sets s
        where s.host_id = ${hostId} and s.id = ${anyOf(setIds)} and ${volumeDataSql} order by s.id`,
  );
  return rows.map(({ id }) => id);
}

/** Sums the bytes of the trashed volumes of a host. */
export async function sumTrash(q: Queryable, hostId: string): Promise<number> {
  const rows = await q
    .select({ bytes: sql<number>`coalesce(sum(${volumes.sizeBytes}), 0)::float8` })
    .from(volumes)
    .where(and(eq(volumes.hostId, hostId), eq(volumes.state, "trashed")));
  return rows[0]?.bytes ?? 0;
}

/** Stores which volume a pending set restores. */
export async function updateRestoreVolume(
  q: Queryable,
  setId: string,
  volumeId: string,
): Promise<void> {
  await q.update(sets).set({ restoreVolumeId: volumeId }).where(eq(sets.id, setId));
}

export interface VolumeFilter {
  service: string | undefined;
  host: string | undefined;
  state: VolumeState | undefined;
}

/** A volume with the id of its tenant, which the API does not show. */
export type VolumeRow = Volume & { tenantId: string };

/** Lists volumes in the order of their ids, after `afterId`. */
export async function listVolumes(
  q: Queryable,
  scope: string | null,
  filter: VolumeFilter,
  afterId: string | undefined,
  limit: number,
): Promise<VolumeRow[]> {
  const { service, host, state } = filter;
  const condition = and(
    gt(volumes.id, afterId ?? ""),
    inScope(volumes.tenantId, scope),
    service === undefined ? undefined : eq(volumes.service, service),
    host === undefined ? undefined : eq(volumes.hostId, host),
    state === undefined ? undefined : eq(volumes.state, state),
  );
  const rows = await selectVolumes(q, condition).orderBy(volumes.id).limit(limit);
  return rows.map(toVolume);
}

export async function findVolume(
  q: Queryable,
  scope: string | null,
  volumeId: string,
): Promise<VolumeRow | undefined> {
  const condition = and(eq(volumes.id, volumeId), inScope(volumes.tenantId, scope));
  const rows = await selectVolumes(q, condition);
  return rows.map(toVolume)[0];
}

const volumeColumns = {
  id: volumes.id,
  tenantId: volumes.tenantId,
  tenant: tenants.name,
  service: volumes.service,
  setId: volumes.setId,
  host: { id: hosts.id, name: hosts.name },
  state: volumes.state,
  sizeBytes: volumes.sizeBytes,
  usedBytes: volumes.usedBytes,
  trashedAt: volumes.trashedAt,
  expiresAt: volumes.expiresAt,
  purging: sql<boolean>`${isNotNull(volumes.purgeAskedAt)}`,
  reason: volumes.reason,
  reportedAt: volumes.reportedAt,
};

function selectVolumes(q: Queryable, condition: SQL | undefined) {
  return q
    .select(volumeColumns)
    .from(volumes)
    .innerJoin(tenants, eq(tenants.id, volumes.tenantId))
    .innerJoin(hosts, eq(hosts.id, volumes.hostId))
    .where(condition);
}

function toVolume(row: Awaited<ReturnType<typeof selectVolumes>>[number]): VolumeRow {
  return {
    ...row,
    trashedAt: row.trashedAt?.toISOString() ?? null,
    expiresAt: row.expiresAt?.toISOString() ?? null,
    reportedAt: row.reportedAt.toISOString(),
  };
}
