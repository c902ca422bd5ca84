import { sql } from "drizzle-orm";
import type { Queryable } from "../../postgres/open-postgres.ts";
import type { StoredOwner } from "../../schema/operations.ts";
import { anyOf, queryRows, secondsFromNow } from "../runtime/query.ts";
import { liveSetSql } from "./operation-conditions.ts";

export interface NewMove {
  setId: string;
  owner: StoredOwner;
  discardsVolume: boolean;
  /** Null if the operation has no deadline. */
  deadlineMs: number | null;
}

/**
 * Creates a waiting move of a live, placed set. A user's move replaces a waiting move of a drain.
 * A waiting update becomes a move with its revision. Returns false if another operation is in
 * progress.
 */
export async function insertMove(q: Queryable, move: NewMove): Promise<boolean> {
  const rows = await queryRows<{ id: string }>(
    q,
    sql`insert into operations (set_id, service_id, kind, phase, owner, discards_volume, deadline_at)
        select s.id, s.service_id, 'move', 'waiting', ${move.owner}, ${move.discardsVolume},
          ${secondsFromNow(move.deadlineMs === null ? null : move.deadlineMs / 1000)}
        from sets s where s.id = ${move.setId} and ${liveSetSql} and s.host_id is not null
        on conflict (set_id) do update set kind = 'move', owner = excluded.owner, deadline_at = excluded.deadline_at,
          discards_volume = excluded.discards_volume,
          attempts = 0, due_at = now(), blocked = null
        where operations.phase = 'waiting' and (operations.kind = 'move' or operations.kind = 'update')
        returning set_id as id`,
  );
  return rows.length === 1;
}

/** Creates a move for each set of a draining host that has no operation yet; at most `limit`. */
export async function insertDrainMoves(q: Queryable, limit: number): Promise<number> {
  const rows = await queryRows<{ id: string }>(
    q,
    sql`insert into operations (set_id, service_id, kind, phase, owner, drain_host_id)
        select s.id, s.service_id, 'move', 'waiting', 'drain', h.id
        from hosts h join sets s on s.host_id = h.id
        where h.draining and h.state <> 'lost' and s.desired <> 'deleted'
          and not exists (select 1 from operations o where o.set_id = s.id)
        order by s.id limit ${limit}
        on conflict (set_id) do nothing returning set_id as id`,
  );
  return rows.length;
}

/**
 * Marks sets as being replaced, and returns their ids. An operation that has ended meanwhile is not
 * among them: the caller inserts no replacement for its set.
 */
export async function startReplacing(
  q: Queryable,
  replacements: readonly { setId: string; replacementSetId: string; deadlineMs: number }[],
): Promise<Set<string>> {
  const rows = await queryRows<{ id: string }>(
    q,
    sql`with wanted as materialized (
          select * from json_to_recordset(${JSON.stringify(replacements)}::json)
            as r("setId" text, "replacementSetId" text, "deadlineMs" float8)
        ), begun as (
          update operations o set phase = 'replacing', replacement_set_id = r."replacementSetId", blocked = null, began_at = now(),
            due_at = now() + make_interval(secs => r."deadlineMs" / 1000)
          from wanted r where o.set_id = r."setId" and o.phase = 'waiting' returning o.set_id, o.replacement_set_id
        ), noted as (
          update rollout_sets u set replacement_set_id = b.replacement_set_id, began_at = now()
          from begun b where u.set_id = b.set_id and u.ended_at is null
        )
        select set_id as id from begun`,
  );
  return new Set(rows.map(({ id }) => id));
}

/** Removes sets from their hosts, to place them again. The caller has locked the hosts. */
export async function startLeaving(q: Queryable, setIds: readonly string[]): Promise<string[]> {
  if (setIds.length === 0) return [];
  const rows = await queryRows<{ id: string }>(
    q,
    sql`with begun as (
          update operations o set phase = 'leaving', blocked = null from sets s
          where o.set_id = ${anyOf(setIds)} and o.phase = 'waiting' and s.id = o.set_id and ${liveSetSql} and s.host_id is not null
          returning s.id, s.host_id
        ), noted as (
          update rollout_sets r set began_at = now(), ready_at = null where r.set_id in (select id from begun) and r.ended_at is null
        ), bumped as (
          update hosts set generation = generation + 1 where id in (select host_id from begun) returning id, generation
        )
        update sets s set generation = s.generation + 1, host_generation = b.generation, updated_at = now(), leaving = true,
          revision = coalesce((select to_revision from operations where set_id = s.id), s.revision)
        from bumped b, begun where s.id = begun.id and b.id = begun.host_id returning s.id`,
  );
  return rows.map(({ id }) => id);
}

/** The order to update a set on its host. */
export interface UpdateOrder {
  setId: string;
  /** The containers that the agent replaces. */
  containers: readonly string[];
  /** The set does not serve meanwhile. */
  interrupts: boolean;
}

/**
 * Updates sets to the revision of their operations, on their hosts. The stored readiness of the set
 * and of the replaced containers ends, so that only a report about the new revision confirms it. An
 * update that is in progress is ordered again. The caller has locked the service and the hosts.
 * Returns the sets.
 */
export async function startUpdating(
  q: Queryable,
  orders: readonly UpdateOrder[],
): Promise<string[]> {
  if (orders.length === 0) return [];
  const rows = await queryRows<{ id: string }>(
    q,
    sql`with wanted as materialized (
          select * from json_to_recordset(${JSON.stringify(orders)}::json) as w("setId" text, containers jsonb, interrupts boolean)
        ), begun as (
          update operations o set phase = 'updating', blocked = null, began_at = now() from sets s, wanted w
          where o.set_id = w."setId" and o.phase in ('waiting', 'updating') and s.id = o.set_id and ${liveSetSql} and s.host_id is not null
          returning s.id, s.host_id, o.to_revision, o.restarts, w.containers, w.interrupts
        ), noted as (
          update rollout_sets r set began_at = now(), ready_at = null, restarts_before = (
            select coalesce(jsonb_object_agg(c->>'name', (c->>'restarts')::int), '{}') from sets x, jsonb_array_elements(x.containers) c where x.id = r.set_id)
          where r.set_id in (select id from begun) and r.ended_at is null
        ), bumped as (
          update hosts set generation = generation + 1 where id in (select host_id from begun) returning id, generation
        )
        update sets s set generation = s.generation + 1, host_generation = b.generation, updated_at = now(),
          revision = coalesce(u.to_revision, s.revision),
          restart_generation = case when u.restarts then s.generation + 1 else s.restart_generation end,
          ready = s.ready and not u.interrupts, ready_since = case when u.interrupts then null else s.ready_since end,
          containers = (select coalesce(jsonb_agg(case when u.containers ? (c->>'name') then c || '{"ready": false}' else c end), '[]')
            from jsonb_array_elements(s.containers) c)
        from begun u join bumped b on b.id = u.host_id where s.id = u.id returning s.id`,
  );
  return rows.map(({ id }) => id);
}
