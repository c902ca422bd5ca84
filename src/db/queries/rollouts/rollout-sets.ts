import { sql } from "drizzle-orm";
import type {
  UpdateDirection,
  UpdateMethod,
  UpdateOutcome,
} from "../../../contracts/api/rollouts.ts";
import type { Reason } from "../../../contracts/common/primitives.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { anyOf, queryRows } from "../runtime/query.ts";

/** The begin of the update of one set. */
export interface NewUpdate {
  setId: string;
  toRevision: number;
  direction: UpdateDirection;
  method: UpdateMethod;
  /** All containers are replaced. */
  restarts: boolean;
}

/**
 * Creates a waiting update of each live set on a host, with its record. A set with another
 * operation gets neither. Returns the sets that have one now. The caller has locked the service.
 */
export async function insertUpdates(
  q: Queryable,
  { id: rolloutId, step }: { id: string; step: number },
  updates: readonly NewUpdate[],
): Promise<string[]> {
  if (updates.length === 0) return [];
  const rows = await queryRows<{ id: string }>(
    q,
    sql`with wanted as materialized (
          select * from json_to_recordset(${JSON.stringify(updates)}::json)
            as w("setId" text, "toRevision" int, direction text, method text, restarts boolean)
        ), begun as (
          insert into operations (set_id, service_id, kind, phase, owner, rollout_id, to_revision, restarts)
          select s.id, s.service_id, 'update', 'waiting', 'rollout', ${rolloutId}, w."toRevision", w.restarts
          from wanted w join sets s on s.id = w."setId"
          where s.deleted_at is null and s.desired <> 'deleted' and s.host_id is not null
          on conflict (set_id) do nothing returning set_id
        )
        insert into rollout_sets (rollout_id, set_id, step, method, direction)
        select ${rolloutId}, w."setId", ${step}, w.method, w.direction from wanted w join begun b on b.set_id = w."setId"
        on conflict (rollout_id, set_id) do update set ${recordAgain} returning set_id as id`,
  );
  return rows.map(({ id }) => id);
}

/** Columns of a record whose set this rollout changes once more. */
const recordAgain = sql`step = excluded.step, method = excluded.method, direction = excluded.direction,
  replacement_set_id = excluded.replacement_set_id, restarts_before = '{}', began_at = excluded.began_at, ready_at = null, ended_at = null, outcome = null,
  reason = null, created_at = now()`;

/**
 * Adds records of operations of rollouts that have the right direction already: those of a failed
 * record, or of a rollout that this one superseded. Returns the sets that have one now.
 */
export async function adoptUpdates(
  q: Queryable,
  { id: rolloutId, step }: { id: string; step: number },
  adopted: readonly { setId: string; direction: UpdateDirection }[],
): Promise<string[]> {
  if (adopted.length === 0) return [];
  const rows = await queryRows<{ id: string }>(
    q,
    sql`with wanted as materialized (
          select * from json_to_recordset(${JSON.stringify(adopted)}::json) as w("setId" text, direction text)
        ), held as (
          update operations o set rollout_id = ${rolloutId} from wanted w
          where o.set_id = w."setId" and o.owner = 'rollout'
          returning o.set_id, o.phase, o.restarts, o.replacement_set_id, o.began_at, w.direction
        )
        insert into rollout_sets (rollout_id, set_id, step, method, direction, replacement_set_id, began_at)
        select ${rolloutId}, h.set_id, ${step}, case when h.phase = 'replacing' then 'start-first' when h.restarts then 'in-place-all'
            else coalesce((select method from rollout_sets r where r.rollout_id = ${rolloutId} and r.set_id = h.set_id), 'in-place') end,
          h.direction, h.replacement_set_id, case when h.phase = 'waiting' then null else now() end
        from held h
        on conflict (rollout_id, set_id) do update set ${recordAgain} returning set_id as id`,
  );
  return rows.map(({ id }) => id);
}

/**
 * Changes the revision of running updates in place, each with a new record. The caller has locked
 * the service and the hosts, and orders the update again with `startUpdating`.
 */
export async function turnUpdates(
  q: Queryable,
  { id: rolloutId, step }: { id: string; step: number },
  turned: readonly NewUpdate[],
): Promise<string[]> {
  if (turned.length === 0) return [];
  const rows = await queryRows<{ id: string }>(
    q,
    sql`with wanted as materialized (
          select * from json_to_recordset(${JSON.stringify(turned)}::json)
            as w("setId" text, "toRevision" int, direction text, method text, restarts boolean)
        ), turned as (
          update operations o set rollout_id = ${rolloutId}, to_revision = w."toRevision", restarts = w.restarts
          from wanted w where o.set_id = w."setId" and o.phase = 'updating' and o.owner = 'rollout'
          returning o.set_id, w.direction, w.method
        )
        insert into rollout_sets (rollout_id, set_id, step, method, direction)
        select ${rolloutId}, set_id, ${step}, method, direction from turned
        on conflict (rollout_id, set_id) do update set ${recordAgain} returning set_id as id`,
  );
  return rows.map(({ id }) => id);
}

/** Ends open records. The set of a record is the replaced one, or the one that took its place. */
export async function endUpdateRecords(
  q: Queryable,
  rolloutId: string,
  ended: readonly { setId: string; outcome: UpdateOutcome; reason: Reason | null }[],
): Promise<void> {
  if (ended.length === 0) return;
  await q.execute(
    sql`update rollout_sets r set ended_at = now(), outcome = e.outcome, reason = e.reason
        from json_to_recordset(${JSON.stringify(ended)}::json) as e("setId" text, outcome text, reason jsonb)
        where r.rollout_id = ${rolloutId} and r.set_id = e."setId" and r.ended_at is null`,
  );
}

/** Ends all open records of a rollout that has ended. */
export async function cancelUpdateRecords(q: Queryable, rolloutId: string): Promise<void> {
  await q.execute(
    sql`update rollout_sets set ended_at = now(), outcome = 'canceled' where rollout_id = ${rolloutId} and ended_at is null`,
  );
}

/**
 * Ends updates of these sets that no agent has to finish. Operations of users and of drains go on,
 * without the revision of the rollout.
 */
export async function cancelUpdates(q: Queryable, setIds: readonly string[]): Promise<void> {
  if (setIds.length === 0) return;
  await q.execute(
    sql`with others as (
          update operations set to_revision = null where set_id = ${anyOf(setIds)} and owner <> 'rollout'
        )
        delete from operations where set_id = ${anyOf(setIds)} and owner = 'rollout'`,
  );
}

/** Ends the waiting updates of the rollouts of a service. Returns their sets. */
export async function cancelWaitingUpdates(q: Queryable, serviceId: string): Promise<string[]> {
  const rows = await queryRows<{ id: string }>(
    q,
    sql`delete from operations where service_id = ${serviceId} and owner = 'rollout' and phase = 'waiting' returning set_id as id`,
  );
  return rows.map(({ id }) => id);
}

/**
 * Ends the updates of a rollout that has ended, apart from those whose replacement is starting.
 * Their sets retain the revision that they have. Returns the sets.
 */
export async function endUpdatesOfRollout(q: Queryable, serviceId: string): Promise<string[]> {
  const rows = await queryRows<{ id: string }>(
    q,
    sql`delete from operations where service_id = ${serviceId} and owner = 'rollout' and phase in ('waiting', 'updating') returning set_id as id`,
  );
  return rows.map(({ id }) => id);
}

/** Lets a waiting update use another method, because no host takes a replacement. */
export async function switchUpdates(
  q: Queryable,
  rolloutId: string,
  switched: readonly { setId: string; method: UpdateMethod }[],
): Promise<void> {
  if (switched.length === 0) return;
  await q.execute(
    sql`with wanted as materialized (
          select * from json_to_recordset(${JSON.stringify(switched)}::json) as w("setId" text, method text)
        ), operation as (
          update operations o set restarts = w.method = 'in-place-all', blocked = null, attempts = 0, due_at = now()
          from wanted w where o.set_id = w."setId" and o.phase = 'waiting' and o.owner = 'rollout'
        )
        update rollout_sets r set method = w.method from wanted w
        where r.rollout_id = ${rolloutId} and r.set_id = w."setId" and r.ended_at is null`,
  );
}

/**
 * Changes the revision of sets that no host runs: pending ones, and those that a user stopped. The
 * caller has locked their hosts; sets elsewhere stay. Returns the sets that have it now.
 */
export async function assignRevisions(
  q: Queryable,
  assigned: readonly { setId: string; toRevision: number }[],
  lockedHostIds: readonly string[],
): Promise<string[]> {
  if (assigned.length === 0) return [];
  const rows = await queryRows<{ id: string }>(
    q,
    sql`with wanted as materialized (
          select s.id, s.host_id, w."toRevision" as revision
          from json_to_recordset(${JSON.stringify(assigned)}::json) as w("setId" text, "toRevision" int) join sets s on s.id = w."setId"
          where s.deleted_at is null and s.desired <> 'deleted'
            and (s.host_id is null or (s.desired = 'stopped' and s.host_id = ${anyOf(lockedHostIds)}))
          order by s.id for no key update of s
        ), bumped as (
          update hosts set generation = generation + 1 where id in (select host_id from wanted where host_id is not null) returning id, generation
        )
        update sets s set revision = w.revision, generation = s.generation + 1, updated_at = now(),
          host_generation = coalesce((select generation from bumped where id = s.host_id), s.host_generation)
        from wanted w where w.id = s.id returning s.id`,
  );
  return rows.map(({ id }) => id);
}
