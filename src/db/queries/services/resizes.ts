import { eq, type SQL, sql } from "drizzle-orm";
import type { Reason } from "../../../contracts/common/primitives.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { serviceResizes } from "../../schema/operations.ts";
import { liveSetSql } from "../operations/operation-conditions.ts";
import { anyOf, queryRows, secondsAgo } from "../runtime/query.ts";

/**
 * The sizes of sets. The amounts of a set's row are booked on its host. During a resize its
 * operation has the new size of the set, and the row has the larger of both sizes in each
 * dimension. So a host is never booked below the limits that its kernel still applies (I2), however
 * the resize ends: `confirmResizes`, or `revertResizes` and then `confirmResizes`.
 */

export interface SetSize {
  cpuMillis: number;
  memoryBytes: number;
  volumeBytes: number;
}

/** A live set as a resize needs it. */
export interface SizedSet {
  id: string;
  hostId: string | null;
  revision: number;
  /** The size that the set has, or is about to have. */
  size: SetSize;
  /**
   * It leaves its host, or another set is to replace it: it keeps its booking, and only its
   * operation changes.
   */
  isDeparting: boolean;
  /** Booked on its host. */
  cpuMillis: number;
  memoryBytes: number;
  volumeBytes: number;
}

const sizedSets = sql`
  select s.id, s.host_id as "hostId", coalesce(o.to_revision, s.revision) as revision,
    json_build_object('cpuMillis', coalesce(o.cpu_millis, s.cpu_millis), 'memoryBytes', coalesce(o.memory_bytes, s.memory_bytes),
      'volumeBytes', coalesce(o.volume_bytes, s.volume_bytes)) as size,
    coalesce(o.kind <> 'resize' or o.phase in ('replacing', 'leaving'), false) as "isDeparting",
    s.cpu_millis::float8 as "cpuMillis", s.memory_bytes::float8 as "memoryBytes", s.volume_bytes::float8 as "volumeBytes"
  from sets s left join operations o on o.set_id = s.id`;

/** The requested size. Undefined amounts do not change. */
export interface WantedSize {
  cpuMillis: number | undefined;
  memoryBytes: number | undefined;
  volumeBytes: number | undefined;
}

/**
 * Live sets of a service whose size differs from the wanted one: pending ones first, then host by
 * host. It reads all live sets of the service (index sets_service), or only those of `ids`, which
 * are sets of the service.
 */
export async function listSetsToResize(
  q: Queryable,
  serviceId: string,
  { cpuMillis, memoryBytes, volumeBytes }: WantedSize,
  limit: number,
  ids?: readonly string[],
): Promise<SizedSet[]> {
  const differs = (column: string, amount: number | undefined): SQL =>
    amount === undefined
      ? sql`false`
      : sql`coalesce(o.${sql.raw(column)}, s.${sql.raw(column)}) <> ${amount}`;
  // A set without a volume has none in its revision, so no volume of it grows.
  const hasVolume = sql`coalesce(o.volume_bytes, s.volume_bytes) > 0`;
  return queryRows(
    q,
    sql`${sizedSets} where ${ids === undefined ? sql`s.service_id = ${serviceId}` : sql`s.id = ${anyOf(ids)}`} and ${liveSetSql}
          and (${differs("cpu_millis", cpuMillis)} or ${differs("memory_bytes", memoryBytes)} or (${hasVolume} and ${differs("volume_bytes", volumeBytes)}))
        order by s.host_id nulls first, s.id limit ${limit}`,
  );
}

/**
 * Locks sets in the order of their ids, and reads them again. The caller has locked their hosts.
 */
export async function lockSizedSets(q: Queryable, setIds: readonly string[]): Promise<SizedSet[]> {
  return queryRows(
    q,
    sql`${sizedSets} where s.id = ${anyOf(setIds)} and ${liveSetSql} order by s.id for no key update of s`,
  );
}

export interface SetMemoryUsage {
  setId: string;
  revision: number;
  usedBytes: number;
  /** The bytes of each container, by its name. */
  containers: Record<string, number>;
}

/** Reads the memory usage of a service's sets whose hosts reported within `ageMaxMs`. */
export async function readMemoryUsage(
  q: Queryable,
  serviceId: string,
  ageMaxMs: number,
): Promise<SetMemoryUsage[]> {
  return queryRows(
    q,
    sql`select s.id as "setId", s.revision, coalesce((h.set_memory->>s.id)::float8, 0) as "usedBytes",
          (select coalesce(json_object_agg(c->>'name', (h.set_memory->>left(c->>'dockerId', 12))::float8), '{}')
           from jsonb_array_elements(s.containers) c where h.set_memory ? left(c->>'dockerId', 12)) as containers
        from sets s join hosts h on h.id = s.host_id
        where s.service_id = ${serviceId} and ${liveSetSql} and h.reported_at > ${secondsAgo(ageMaxMs / 1000)}
        order by s.id`,
  );
}

export interface SetResize {
  setId: string;
  size: SetSize;
}

/**
 * Stores a new size of placed and pending sets and books the growth on their hosts, which the
 * caller has locked and checked. `confirmResizes` releases the difference of a smaller size. The
 * growth counts as unreported until the next usage report. A pending set is due immediately. It is
 * one statement, so that sets and hosts agree.
 */
export async function resizeSets(
  q: Queryable,
  resizes: readonly SetResize[],
): Promise<{ id: string; hostId: string | null }[]> {
  if (resizes.length === 0) return [];
  return queryRows(
    q,
    sql`with wanted as materialized (
          select r."setId" as id, (r.size->>'cpuMillis')::bigint as cpu, (r.size->>'memoryBytes')::bigint as memory,
            (r.size->>'volumeBytes')::bigint as volume
          from json_to_recordset(${JSON.stringify(resizes)}::json) as r("setId" text, size json)
        ), target as materialized (
          select s.id, s.service_id, s.host_id, w.cpu as to_cpu, w.memory as to_memory, w.volume as to_volume,
            ${larger("cpu_millis", "cpu")} as cpu, ${larger("memory_bytes", "memory")} as memory, ${larger("volume_bytes", "volume")} as volume,
            s.cpu_millis, s.memory_bytes, s.volume_bytes
          from wanted w join sets s on s.id = w.id where ${liveSetSql} order by s.id for no key update of s
        ), booked as (
          update hosts h set generation = h.generation + 1, allocated_cpu_millis = allocated_cpu_millis + d.cpu,
            allocated_memory_bytes = allocated_memory_bytes + d.memory, allocated_volume_bytes = allocated_volume_bytes + d.volume,
            unreported_cpu_millis = unreported_cpu_millis + d.cpu, unreported_memory_bytes = unreported_memory_bytes + d.memory,
            unreported_volume_bytes = unreported_volume_bytes + d.volume
          from (select host_id, sum(cpu - cpu_millis) as cpu, sum(memory - memory_bytes) as memory, sum(volume - volume_bytes) as volume
                from target where host_id is not null group by host_id) d
          where h.id = d.host_id returning h.id, h.generation
        ), begun as (
          insert into operations as o (set_id, service_id, kind, phase, owner, cpu_millis, memory_bytes, volume_bytes,
            former_cpu_millis, former_memory_bytes, former_volume_bytes)
          select id, service_id, 'resize', 'applying', 'resize', to_cpu, to_memory, to_volume, cpu_millis, memory_bytes, volume_bytes
          from target where host_id is not null
          on conflict (set_id) do update set phase = 'applying', blocked = null, cpu_millis = excluded.cpu_millis,
            memory_bytes = excluded.memory_bytes, volume_bytes = excluded.volume_bytes,
            former_cpu_millis = coalesce(o.former_cpu_millis, excluded.former_cpu_millis),
            former_memory_bytes = coalesce(o.former_memory_bytes, excluded.former_memory_bytes),
            former_volume_bytes = coalesce(o.former_volume_bytes, excluded.former_volume_bytes)
        )
        update sets s set generation = s.generation + 1, updated_at = now(), last_operation = null, sized = t.host_id is null,
          cpu_millis = t.cpu, memory_bytes = t.memory, volume_bytes = t.volume,
          plan_after = case when t.host_id is null then now() else s.plan_after end,
          host_generation = coalesce((select generation from booked where id = t.host_id), s.host_generation)
        from target t where s.id = t.id returning s.id, s.host_id as "hostId"`,
  );
}

/**
 * The new booked amount. A pending set has no booking yet, so its amount may shrink immediately.
 */
function larger(column: string, amount: string): SQL {
  return sql.raw(
    `case when s.host_id is null then w.${amount} else greatest(s.${column}, w.${amount}) end`,
  );
}

/** Changes the size that departing sets get on their next host. Their bookings do not change. */
export async function retargetOperations(
  q: Queryable,
  resizes: readonly SetResize[],
): Promise<void> {
  if (resizes.length === 0) return;
  await q.execute(
    sql`update operations o set cpu_millis = (r.size->>'cpuMillis')::bigint, memory_bytes = (r.size->>'memoryBytes')::bigint,
          volume_bytes = (r.size->>'volumeBytes')::bigint
        from json_to_recordset(${JSON.stringify(resizes)}::json) as r("setId" text, size json) where o.set_id = r."setId"`,
  );
}

/** Stores resizes that wait for capacity on their hosts, with the reason. */
export async function insertWaitingResizes(
  q: Queryable,
  resizes: readonly (SetResize & { reason: Reason })[],
  mayMove: boolean,
): Promise<void> {
  if (resizes.length === 0) return;
  await q.execute(
    sql`insert into operations as o (set_id, service_id, kind, phase, owner, may_move, cpu_millis, memory_bytes, volume_bytes, blocked)
        select s.id, s.service_id, 'resize', 'waiting', 'resize', ${mayMove}, (r.size->>'cpuMillis')::bigint,
          (r.size->>'memoryBytes')::bigint, (r.size->>'volumeBytes')::bigint, r.reason
        from json_to_recordset(${JSON.stringify(resizes)}::json) as r("setId" text, size json, reason jsonb)
        join sets s on s.id = r."setId"
        on conflict (set_id) do update set phase = 'waiting', may_move = excluded.may_move, cpu_millis = excluded.cpu_millis,
          memory_bytes = excluded.memory_bytes, volume_bytes = excluded.volume_bytes, blocked = excluded.blocked,
          former_cpu_millis = ${formerUnlessApplying("cpu_millis")}, former_memory_bytes = ${formerUnlessApplying("memory_bytes")},
          former_volume_bytes = ${formerUnlessApplying("volume_bytes")}, attempts = 0, due_at = now()
        where o.kind = 'resize' and o.phase in ('waiting', 'applying', 'reverting')`,
  );
}

/**
 * Reduces bookings to the size that the kernel now applies, and ends the operations. Returns
 * whether a booking became smaller. The caller has locked the host and the sets.
 */
export async function confirmResizes(
  q: Queryable,
  hostId: string,
  setIds: readonly string[],
): Promise<boolean> {
  if (setIds.length === 0) return false;
  const rows = await queryRows<{ hasFreed: boolean }>(
    q,
    sql`with target as materialized (
          select s.id, o.phase, o.blocked, s.cpu_millis - o.cpu_millis as cpu, s.memory_bytes - o.memory_bytes as memory,
            case when s.restore_volume_id is null then s.volume_bytes - o.volume_bytes else 0 end as volume
          from operations o join sets s on s.id = o.set_id
          where s.host_id = ${hostId} and ${liveSetSql} and s.id = ${anyOf(setIds)} and o.phase in ('applying', 'reverting')
        ), freed as (
          update hosts set allocated_cpu_millis = allocated_cpu_millis - f.cpu, allocated_memory_bytes = allocated_memory_bytes - f.memory,
            allocated_volume_bytes = allocated_volume_bytes - f.volume
          from (select sum(cpu) as cpu, sum(memory) as memory, sum(volume) as volume from target) f
          where id = ${hostId} and (f.cpu <> 0 or f.memory <> 0 or f.volume <> 0) returning id
        ), ended as (
          delete from operations where set_id in (select id from target)
        ), settled as (
          update sets s set cpu_millis = s.cpu_millis - t.cpu, memory_bytes = s.memory_bytes - t.memory, volume_bytes = s.volume_bytes - t.volume,
            last_operation = case when t.phase = 'reverting' then
              jsonb_build_object('kind', 'resize', 'outcome', 'reverted', 'reason', t.blocked) end
          from target t where s.id = t.id
        )
        select exists (select 1 from freed) as "hasFreed"`,
  );
  return rows[0]?.hasFreed ?? false;
}

/**
 * A size that the agent was applying when the next one began to wait is the size to revert to, and
 * the set has it. So the operation forgets the size before it.
 */
function formerUnlessApplying(column: string): SQL {
  return sql.raw(`case when o.phase = 'applying' then null else o.former_${column} end`);
}

/**
 * Reverts sets to their previous size after the kernel refused the new one. The larger amounts stay
 * booked until the agent confirms the previous size. Returns the reverted sets. The caller has
 * locked the host and the sets.
 */
export async function revertResizes(
  q: Queryable,
  hostId: string,
  refused: readonly { setId: string; reason: Reason }[],
): Promise<string[]> {
  if (refused.length === 0) return [];
  const rows = await queryRows<{ id: string }>(
    q,
    sql`with target as (
          update operations o set phase = 'reverting', blocked = r.reason, cpu_millis = o.former_cpu_millis,
            memory_bytes = o.former_memory_bytes, volume_bytes = o.former_volume_bytes
          from json_to_recordset(${JSON.stringify(refused)}::json) as r("setId" text, reason jsonb), sets s
          where o.set_id = r."setId" and s.id = o.set_id and s.host_id = ${hostId} and ${liveSetSql} and not s.sized
            and o.phase = 'applying' and o.former_cpu_millis is not null
          returning o.set_id
        ), bumped as (
          update hosts set generation = generation + 1 where id = ${hostId} and exists (select 1 from target) returning generation
        )
        update sets s set generation = s.generation + 1, host_generation = bumped.generation, updated_at = now()
        from target t, bumped where s.id = t.set_id returning s.id`,
  );
  return rows.map(({ id }) => id);
}

export interface ServiceResizeRow extends WantedSize {
  serviceId: string;
  mayMove: boolean;
}

/** Stores a resize that continues in later rounds. It replaces an earlier one. */
export async function upsertServiceResize(q: Queryable, resize: ServiceResizeRow): Promise<void> {
  await q.execute(
    sql`insert into service_resizes (service_id, cpu_millis, memory_bytes, volume_bytes, may_move)
        values (${resize.serviceId}, ${resize.cpuMillis ?? null}, ${resize.memoryBytes ?? null}, ${resize.volumeBytes ?? null}, ${resize.mayMove})
        on conflict (service_id) do update set cpu_millis = coalesce(excluded.cpu_millis, service_resizes.cpu_millis),
          memory_bytes = coalesce(excluded.memory_bytes, service_resizes.memory_bytes),
          volume_bytes = coalesce(excluded.volume_bytes, service_resizes.volume_bytes), may_move = excluded.may_move, created_at = now()`,
  );
}

export async function findServiceResize(
  q: Queryable,
  serviceId: string,
): Promise<ServiceResizeRow | undefined> {
  const { cpuMillis, memoryBytes, volumeBytes, mayMove } = serviceResizes;
  const [row] = await q
    .select({ cpuMillis, memoryBytes, volumeBytes, mayMove })
    .from(serviceResizes)
    .where(eq(serviceResizes.serviceId, serviceId));
  return (
    row && {
      serviceId,
      mayMove: row.mayMove,
      cpuMillis: row.cpuMillis ?? undefined,
      memoryBytes: row.memoryBytes ?? undefined,
      volumeBytes: row.volumeBytes ?? undefined,
    }
  );
}

export async function deleteServiceResize(q: Queryable, serviceId: string): Promise<void> {
  await q.delete(serviceResizes).where(eq(serviceResizes.serviceId, serviceId));
}

/** Lists services with a stored resize, the oldest first. */
export async function listServiceResizes(q: Queryable, limit: number): Promise<string[]> {
  const rows = await q
    .select({ id: serviceResizes.serviceId })
    .from(serviceResizes)
    .orderBy(serviceResizes.createdAt, serviceResizes.serviceId)
    .limit(limit);
  return rows.map(({ id }) => id);
}

/**
 * Changes the volume size of those of the revisions that have a volume. Sets have sizes of their
 * own, so it changes no set. The caller has locked the service.
 */
export async function updateRevisionVolumes(
  q: Queryable,
  serviceId: string,
  revisions: readonly number[],
  volumeBytes: number,
): Promise<void> {
  await q.execute(
    sql`update revisions set template = jsonb_set(template, '{volume,sizeBytes}', to_jsonb(${volumeBytes}::bigint))
        where service_id = ${serviceId} and number in ${[...revisions]} and jsonb_typeof(template->'volume') = 'object'
          and template->'volume'->'sizeBytes' <> to_jsonb(${volumeBytes}::bigint)`,
  );
}
