import { sql } from "drizzle-orm";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { anyOf, queryRows } from "../runtime/query.ts";
import { liveSetSql } from "./operation-conditions.ts";

/**
 * Changes that a process of the previous release began, during an upgrade or before it. That
 * release stores them in columns of sets and knows no operations.
 */

export interface PreviousMove {
  setId: string;
  hostId: string;
}

/** The previous release removes set `s` from its host, and no operation says so. */
const previousMoveSql = sql`(s.leaving and s.host_id is not null and ${liveSetSql}
  and not exists (select 1 from operations o where o.set_id = s.id and o.phase in ('leaving', 'replacing')))`;

/**
 * Lists sets that the previous release removes from their hosts; at most `limit`. Uses
 * sets_leaving.
 */
export async function listPreviousMoves(q: Queryable, limit: number): Promise<PreviousMove[]> {
  return queryRows(
    q,
    sql`select s.id as "setId", s.host_id as "hostId" from sets s where ${previousMoveSql} order by s.id limit ${limit}`,
  );
}

/**
 * Creates the operations of these moves. Their hosts get the sets again, because this release has
 * sent them without the removal. Returns the moves that it has created. The caller has locked the
 * hosts.
 */
export async function insertPreviousMoves(
  q: Queryable,
  moves: readonly PreviousMove[],
): Promise<PreviousMove[]> {
  if (moves.length === 0) return [];
  const isHere = sql`s.id = ${anyOf(moves.map(({ setId }) => setId))} and s.host_id = ${anyOf(moves.map(({ hostId }) => hostId))}`;
  return queryRows(
    q,
    sql`with target as (
          select s.id, s.service_id, s.host_id, s.attempts, s.move_revision, ${previousSize}
          from sets s left join revisions r on r.service_id = s.service_id and r.number = coalesce(s.move_revision, s.revision)
          where ${isHere} and ${previousMoveSql} order by s.id for no key update of s
        ), begun as (
          insert into operations (set_id, service_id, kind, phase, owner, to_revision, cpu_millis, memory_bytes, volume_bytes)
          select id, service_id, 'move', 'leaving', case when attempts > 0 then 'start-failed' else 'person' end, move_revision,
            cpu_millis, memory_bytes, volume_bytes from target
          on conflict (set_id) do update set phase = 'leaving', blocked = null
        ), bumped as (
          update hosts set generation = generation + 1 where id in (select host_id from target) returning id, generation
        )
        update sets s set generation = s.generation + 1, host_generation = b.generation, updated_at = now(), move_revision = null,
          held_back = null
        from target t join bumped b on b.id = t.host_id where s.id = t.id returning s.id as "setId", s.host_id as "hostId"`,
  );
}

/**
 * Creates the operations of waiting moves and of replacements; at most `limit` of each. Skips
 * locked sets. Uses sets_moving and sets_replaces.
 */
export async function insertPreviousOperations(q: Queryable, limit: number): Promise<void> {
  const hasNoOperation = sql`not exists (select 1 from operations o where o.set_id = s.id)`;
  await q.execute(
    sql`with target as (
          select s.id, s.service_id, s.revision, s.move_revision, s.held_back, ${previousSize}
          from sets s left join revisions r on r.service_id = s.service_id and r.number = s.move_revision
          where s.move_revision is not null and not s.leaving and s.host_id is not null and ${liveSetSql} and ${hasNoOperation}
            and not exists (select 1 from sets n where n.replaces = s.id and n.deleted_at is null and n.desired <> 'deleted')
          order by s.id limit ${limit} for no key update of s skip locked
        ), waiting as (
          insert into operations (set_id, service_id, kind, phase, owner, may_move, to_revision, blocked, cpu_millis, memory_bytes, volume_bytes)
          select id, service_id, case when move_revision = revision then 'move' else 'resize' end, 'waiting', 'person', true,
            move_revision, held_back, cpu_millis, memory_bytes, volume_bytes from target
          on conflict (set_id) do nothing
        )
        update sets s set move_revision = null, held_back = null from target t where s.id = t.id`,
  );
  await q.execute(
    sql`insert into operations (set_id, service_id, kind, phase, owner, replacement_set_id, due_at)
        select s.id, s.service_id, 'move', 'replacing', 'person', min(n.id), now() + interval '10 minutes'
        from sets n join sets s on s.id = n.replaces
        where n.replaces is not null and n.deleted_at is null and n.desired <> 'deleted' and ${liveSetSql} and ${hasNoOperation}
          and not exists (select 1 from operations o where o.replacement_set_id = n.id)
        group by s.id order by s.id limit ${limit} on conflict do nothing`,
  );
}

/** In the previous release a size is a part of a revision. */
const previousAmountSql = (amount: string) =>
  sql.raw(
    `case when r.number is not null and (s.move_revision is not null or not s.sized) then coalesce((${amount})::bigint, 0) end`,
  );
const previousSize = sql`${previousAmountSql("r.template->>'cpuMillis'")} as cpu_millis, ${previousAmountSql("r.template->>'memoryBytes'")} as memory_bytes,
  ${previousAmountSql("r.template->'volume'->>'sizeBytes'")} as volume_bytes`;
