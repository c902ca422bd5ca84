import { sql } from "drizzle-orm";
import type { Queryable } from "../client.ts";
import { rowsOf } from "./rows.ts";

/** Live sets of one revision of a service on one host, or on none. */
export interface RevisionSets {
  revision: number;
  hostId: string | null;
  setIds: string[];
}

/** Where a service's live sets are, by revision. The service is locked by the caller, so none is added meanwhile. */
export async function listSetsByRevision(q: Queryable, serviceId: string): Promise<RevisionSets[]> {
  return rowsOf(
    q,
    sql`select revision, host_id as "hostId", json_agg(id order by id) as "setIds" from sets
        where service_id = ${serviceId} and deleted_at is null and desired <> 'deleted'
        group by revision, host_id order by revision, host_id`,
  );
}

/** What sets of hosts use of their memory, by set, as last reported; with how old that is. */
export async function readSetMemory(
  q: Queryable,
  hostIds: readonly string[],
): Promise<Map<string, number>> {
  const rows = await rowsOf<{ setMemory: Record<string, number> }>(
    q,
    sql`select set_memory as "setMemory" from hosts
        where id in (select value from json_array_elements_text(${JSON.stringify(hostIds)}::json))`,
  );
  return new Map(rows.flatMap(({ setMemory }) => Object.entries(setMemory)));
}

export interface SetAmounts {
  cpuMillis: number;
  memoryBytes: number;
  volumeBytes: number;
}

/**
 * Moves live sets of a revision to another that differs in amounts only, and books the difference on their hosts, which the
 * caller has locked and checked. Growth counts as unreported until the next usage report, or until it is taken back. One statement, so that sets and
 * hosts agree.
 */
export async function resizeSets(
  q: Queryable,
  change: {
    serviceId: string;
    fromRevision: number;
    toRevision: number;
    amounts: SetAmounts;
    /** Left as they are: they are replaced. */
    exceptSetIds: readonly string[];
  },
): Promise<{ id: string; hostId: string | null }[]> {
  const { cpuMillis, memoryBytes, volumeBytes } = change.amounts;
  return rowsOf(
    q,
    sql`with target as materialized (
          select id, host_id, ${cpuMillis}::bigint - cpu_millis as cpu, ${memoryBytes}::bigint - memory_bytes as memory,
            ${volumeBytes}::bigint - volume_bytes as volume
          from sets where service_id = ${change.serviceId} and revision = ${change.fromRevision} and deleted_at is null
            and desired <> 'deleted'
            and id not in (select value from json_array_elements_text(${JSON.stringify(change.exceptSetIds)}::json))
          order by id for update
        ), booked as (
          update hosts h set generation = h.generation + 1, allocated_cpu_millis = allocated_cpu_millis + d.cpu,
            allocated_memory_bytes = allocated_memory_bytes + d.memory, allocated_volume_bytes = allocated_volume_bytes + d.volume,
            unreported_cpu_millis = greatest(0, unreported_cpu_millis + d.cpu),
            unreported_memory_bytes = greatest(0, unreported_memory_bytes + d.memory),
            unreported_volume_bytes = greatest(0, unreported_volume_bytes + d.volume)
          from (select host_id, sum(cpu) as cpu, sum(memory) as memory, sum(volume) as volume from target
                where host_id is not null group by host_id) d
          where h.id = d.host_id returning h.id, h.generation
        )
        update sets s set revision = ${change.toRevision}, generation = s.generation + 1, cpu_millis = ${cpuMillis},
          memory_bytes = ${memoryBytes}, volume_bytes = ${volumeBytes}, updated_at = now(), sized = s.host_id is null,
          host_generation = coalesce((select generation from booked where id = t.host_id), s.host_generation)
        from target t where s.id = t.id returning s.id, s.host_id as "hostId"`,
  );
}
