import { type SQL, sql } from "drizzle-orm";
import type { Reason } from "../../../contracts/common/primitives.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { anyOf, rowsOf } from "../runtime/query.ts";

/**
 * The sizes of sets. A set's amounts are what is booked for it: those of its revision, and from a resize until its agent has said
 * that the kernel holds it to the new ones (`sized`), the larger of both in each dimension. So a host is never booked below what
 * its kernel has let sets have (I2), whichever way the resize ends: `settleSizes`, or back by `returnSizes`.
 */

/** A live set as a resize needs it, with what is booked for it. */
export interface SizedSet {
  id: string;
  /** Of which it is, or is to be where it is about to be moved to. */
  revision: number;
  hostId: string | null;
  /** It goes: it leaves its host, or another that takes its place is under way. It keeps its booking and its size. */
  isGoing: boolean;
  cpuMillis: number;
  memoryBytes: number;
  volumeBytes: number;
}

const isLive = sql`s.deleted_at is null and s.desired <> 'deleted'`;

/** Set `s` has another that is to take its place. */
export const isBeingReplaced = sql`exists (select 1 from sets n where n.replaces = s.id and n.deleted_at is null and n.desired <> 'deleted')`;

/** Hosts of a service's live sets: to be locked before the sets are, and so only a guess until then. */
export async function listHostsOfService(q: Queryable, serviceId: string): Promise<string[]> {
  const rows = await rowsOf<{ hostId: string }>(
    q,
    sql`select distinct s.host_id as "hostId" from sets s
        where s.service_id = ${serviceId} and ${isLive} and s.host_id is not null order by 1`,
  );
  return rows.map(({ hostId }) => hostId);
}

/**
 * Locks a service's live sets and reads them as they are now. The service and hosts are locked by the caller: none is added, and
 * none comes to or leaves those hosts; but one may be on another host by now.
 */
export async function lockSizedSets(q: Queryable, serviceId: string): Promise<SizedSet[]> {
  return rowsOf(
    q,
    sql`select s.id, coalesce(s.move_revision, s.revision) as revision, s.host_id as "hostId", s.leaving or ${isBeingReplaced} as "isGoing",
          s.cpu_millis::float8 as "cpuMillis", s.memory_bytes::float8 as "memoryBytes", s.volume_bytes::float8 as "volumeBytes"
        from sets s where s.service_id = ${serviceId} and ${isLive} order by s.id for update of s`,
  );
}

export interface SetMemoryUse {
  setId: string;
  revision: number;
  usedBytes: number;
  /** By the container's name. */
  containers: Record<string, number>;
}

/** What a service's sets hold of their memory, as far as their hosts reported it within `ageMaxMs`. What is older says nothing. */
export async function readMemoryUse(
  q: Queryable,
  serviceId: string,
  ageMaxMs: number,
): Promise<SetMemoryUse[]> {
  return rowsOf(
    q,
    sql`select s.id as "setId", coalesce(s.move_revision, s.revision) as revision, coalesce((h.set_memory->>s.id)::float8, 0) as "usedBytes",
          (select coalesce(json_object_agg(c->>'name', (h.set_memory->>left(c->>'dockerId', 12))::float8), '{}')
           from jsonb_array_elements(s.containers) c where h.set_memory ? left(c->>'dockerId', 12)) as containers
        from sets s join hosts h on h.id = s.host_id
        where s.service_id = ${serviceId} and ${isLive} and h.reported_at > now() - make_interval(secs => ${ageMaxMs / 1000}::float8)
        order by s.id`,
  );
}

export interface SetAmounts {
  cpuMillis: number;
  memoryBytes: number;
  volumeBytes: number;
}

/**
 * Moves live sets to another revision that differs in amounts only, and books what they need on top on their hosts, which the caller has
 * locked and checked: what becomes less is given back by `settleSizes`. Growth counts as unreported until the next usage
 * report. A pending set is due at once. A move for another size has become needless, one that somebody wants for its own sake goes on.
 * One statement, so that sets and hosts agree.
 */
export async function resizeSets(
  q: Queryable,
  change: { setIds: readonly string[]; toRevision: number; amounts: SetAmounts },
): Promise<{ id: string; hostId: string | null }[]> {
  const { cpuMillis, memoryBytes, volumeBytes } = change.amounts;
  return rowsOf(
    q,
    sql`with target as materialized (
          select s.id, s.host_id, ${larger(sql`cpu_millis`, cpuMillis)} as cpu,
            ${larger(sql`memory_bytes`, memoryBytes)} as memory, ${larger(sql`volume_bytes`, volumeBytes)} as volume
          from sets s where s.id = ${anyOf(change.setIds)} and ${isLive}
          order by s.id for update
        ), booked as (
          update hosts h set generation = h.generation + 1, allocated_cpu_millis = allocated_cpu_millis + d.cpu,
            allocated_memory_bytes = allocated_memory_bytes + d.memory, allocated_volume_bytes = allocated_volume_bytes + d.volume,
            unreported_cpu_millis = unreported_cpu_millis + d.cpu, unreported_memory_bytes = unreported_memory_bytes + d.memory,
            unreported_volume_bytes = unreported_volume_bytes + d.volume
          from (select t.host_id, sum(t.cpu - s.cpu_millis) as cpu, sum(t.memory - s.memory_bytes) as memory,
                  sum(t.volume - s.volume_bytes) as volume
                from target t join sets s on s.id = t.id where t.host_id is not null group by t.host_id) d
          where h.id = d.host_id returning h.id, h.generation
        )
        update sets s set generation = s.generation + 1, updated_at = now(), held_back = null,
          move_revision = case when s.move_revision = s.revision then ${change.toRevision}::int end,
          former_revision = case when t.host_id is not null then coalesce(s.former_revision, s.revision) end,
          revision = ${change.toRevision}, sized = t.host_id is null,
          cpu_millis = t.cpu, memory_bytes = t.memory, volume_bytes = t.volume,
          plan_after = case when t.host_id is null then now() else s.plan_after end,
          host_generation = coalesce((select generation from booked where id = t.host_id), s.host_generation)
        from target t where s.id = t.id returning s.id, s.host_id as "hostId"`,
  );
}

/** What is booked of a column from now on: for a pending set, of which nothing is, the new amount. */
function larger(column: SQL, amount: number): SQL {
  return sql`case when s.host_id is null then ${amount}::bigint else greatest(s.${column}, ${amount}::bigint) end`;
}

/**
 * The kernel holds these sets to the amounts of their revision: what was booked beyond is given back. True when that was anything.
 * The host and the sets are locked by the caller.
 */
export async function settleSizes(
  q: Queryable,
  hostId: string,
  setIds: readonly string[],
): Promise<boolean> {
  if (setIds.length === 0) return false;
  const rows = await rowsOf<{ hasFreed: boolean }>(
    q,
    sql`with target as materialized (
          select s.id, s.cpu_millis - ${revisionAmounts.cpuMillis} as cpu, s.memory_bytes - ${revisionAmounts.memoryBytes} as memory,
            ${volumeBeyond} as volume
          from sets s join revisions r on r.service_id = s.service_id and r.number = s.revision
          where s.host_id = ${hostId} and ${isLive} and not s.leaving
            and s.id = ${anyOf(setIds)}
        ), freed as (
          update hosts set allocated_cpu_millis = allocated_cpu_millis - f.cpu, allocated_memory_bytes = allocated_memory_bytes - f.memory,
            allocated_volume_bytes = allocated_volume_bytes - f.volume
          from (select sum(cpu) as cpu, sum(memory) as memory, sum(volume) as volume from target) f
          where id = ${hostId} and (f.cpu <> 0 or f.memory <> 0 or f.volume <> 0) returning id
        ), settled as (
          update sets s set former_revision = null, cpu_millis = s.cpu_millis - t.cpu, memory_bytes = s.memory_bytes - t.memory,
            volume_bytes = s.volume_bytes - t.volume
          from target t where s.id = t.id
        )
        select exists (select 1 from freed) as "hasFreed"`,
  );
  return rows[0]?.hasFreed ?? false;
}

/** What of a booked volume is beyond revision `r`; a restored one may be larger than that, and is as large as it is. */
const volumeBeyond = sql`case when s.restore_volume_id is null
  then s.volume_bytes - coalesce((r.template->'volume'->>'sizeBytes')::bigint, 0) else 0 end`;

/** The amounts that revision `r` asks for. */
export const revisionAmounts = {
  cpuMillis: sql`(r.template->>'cpuMillis')::bigint`,
  memoryBytes: sql`(r.template->>'memoryBytes')::bigint`,
  volumeBytes: sql`coalesce((r.template->'volume'->>'sizeBytes')::bigint, 0)`,
};

/**
 * The new size was refused: these sets go back to the revision that they had before, and keep their booking until their agent
 * says that they have its size. The host and the sets are locked by the caller. Gives the sets that had somewhere to go back to.
 */
export async function returnSizes(
  q: Queryable,
  hostId: string,
  refused: readonly { setId: string; reason: Reason }[],
): Promise<string[]> {
  if (refused.length === 0) return [];
  const rows = await rowsOf<{ id: string }>(
    q,
    sql`with target as (
          select s.id, o.reason from json_to_recordset(${JSON.stringify(refused)}::json) as o("setId" text, reason jsonb)
          join sets s on s.id = o."setId"
          where s.host_id = ${hostId} and ${isLive} and not s.leaving and not s.sized and s.former_revision is not null
        ), bumped as (
          update hosts set generation = generation + 1 where id = ${hostId} and exists (select 1 from target) returning generation
        )
        update sets s set revision = s.former_revision, former_revision = null, held_back = t.reason,
          generation = s.generation + 1, host_generation = bumped.generation, updated_at = now()
        from target t, bumped where s.id = t.id returning s.id`,
  );
  return rows.map(({ id }) => id);
}
