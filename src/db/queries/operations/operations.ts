import { eq, type SQL, sql } from "drizzle-orm";
import type { EndedOperation } from "../../../contracts/api/operations.ts";
import { operations, type StoredOwner } from "../../schema/operations.ts";
import type { Reason } from "../../../contracts/common/primitives.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { anyOf, queryRows, secondsAgo, secondsFromNow } from "../runtime/query.ts";

/** SQL condition: set `s` exists and is not marked for deletion. */
export const liveSetSql = sql`s.deleted_at is null and s.desired <> 'deleted'`;

/**
 * SQL condition: set `s` is one of its service's replicas. A replacement counts only after the set
 * that it replaces is marked for deletion. Uses operations_replacement_unique.
 */
export const replicaSetSql = sql`${liveSetSql} and not exists (
  select 1 from operations r join sets replaced on replaced.id = r.set_id
  where r.replacement_set_id = s.id and replaced.deleted_at is null and replaced.desired <> 'deleted')`;

/**
 * SQL condition: the operation of set `s` removes the set from its host to place it again. During
 * an upgrade, a process of the previous release may complete that and clear the column.
 */
export const leavingSetSql = sql`(s.leaving and exists (select 1 from operations l where l.set_id = s.id and l.phase = 'leaving'))`;

export interface NewMove {
  setId: string;
  owner: StoredOwner;
  discardsVolume: boolean;
  /** Null if the operation has no deadline. */
  deadlineMs: number | null;
}

/**
 * Creates a waiting move of a live, placed set. A user's move replaces a waiting move of a drain.
 * Returns false if another operation is in progress.
 */
export async function insertMove(q: Queryable, move: NewMove): Promise<boolean> {
  const rows = await queryRows<{ id: string }>(
    q,
    sql`insert into operations (set_id, service_id, kind, phase, owner, discards_volume, deadline_at)
        select s.id, s.service_id, 'move', 'waiting', ${move.owner}, ${move.discardsVolume},
          ${secondsFromNow(move.deadlineMs === null ? null : move.deadlineMs / 1000)}
        from sets s where s.id = ${move.setId} and ${liveSetSql} and s.host_id is not null
        on conflict (set_id) do update set owner = excluded.owner, deadline_at = excluded.deadline_at,
          discards_volume = excluded.discards_volume,
          attempts = 0, due_at = now(), blocked = null
        where operations.kind = 'move' and operations.phase = 'waiting'
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
 * Cancels the waiting moves of drains that have ended. A move whose set was resized meanwhile
 * becomes a resize, so that the new size is not lost. The `moves` sweep also calls it, because a
 * move may be inserted while the drain ends.
 */
export async function cancelDrainMoves(q: Queryable, limit: number): Promise<void> {
  await q.execute(
    sql`with ended as (
          select o.set_id, o.cpu_millis from operations o
          where o.owner = 'drain' and o.phase = 'waiting'
            and not exists (select 1 from hosts h where h.id = o.drain_host_id and h.draining)
          order by o.set_id limit ${limit} for update of o skip locked
        ), resized as (
          update operations o set ${asResize} from ended e where o.set_id = e.set_id and e.cpu_millis is not null
        )
        delete from operations o using ended e where o.set_id = e.set_id and e.cpu_millis is null`,
  );
}

/** Columns of a move that ends although its set still needs the size with which it would move. */
const asResize = sql.raw(
  `kind = 'resize', owner = 'resize', drain_host_id = null, discards_volume = false, deadline_at = null, blocked = null, attempts = 0, due_at = now()`,
);

/** Lists services with a due waiting operation after `after`, in the order of their ids. */
export async function listServicesWithDueOperations(
  q: Queryable,
  after: string,
  limit: number,
): Promise<string[]> {
  const rows = await queryRows<{ id: string }>(
    q,
    sql`select distinct o.service_id as id from operations o
          join sets s on s.id = o.set_id join hosts h on h.id = s.host_id
        where o.phase = 'waiting' and o.due_at <= now() and h.state <> 'lost' and ${liveSetSql} and o.service_id > ${after}
        order by 1 limit ${limit}`,
  );
  return rows.map(({ id }) => id);
}

/** SQL condition: drain `d` of host `h` is forced and past its deadline. It ignores budgets. */
export const forcedDrainSql = sql`coalesce(h.draining and d.is_forced and coalesce(d.deadline_at, d.created_at) <= now(), false)`;

/** A waiting operation, with the current and the requested state of its set. */
export interface WaitingOperation {
  setId: string;
  kind: "move" | "resize" | "update";
  owner: StoredOwner;
  mayMove: boolean;
  discardsVolume: boolean;
  attempts: number;
  hostId: string;
  hostName: string;
  isHostDraining: boolean;
  /** The drain is forced, and its deadline has passed: it ignores budgets and capacity. */
  isForced: boolean;
  desired: "running" | "stopped";
  isAvailable: boolean;
  hasVolumeData: boolean;
  toRevision: number;
  /** A replacement could not have the address of the set at the same time. */
  hasStaticAddress: boolean;
  to: { cpuMillis: number; memoryBytes: number; volumeBytes: number };
  /** Booked on its host. */
  cpuMillis: number;
  memoryBytes: number;
  volumeBytes: number;
}

/**
 * The due operations of a service whose row the caller has locked; those with the fewest attempts
 * first. A drain of the host applies to operations of every owner. `volumeDataSql` is an expression
 * over set `s`, see queries/volumes.
 */
export async function listDueOperations(
  q: Queryable,
  serviceId: string,
  { volumeDataSql, limit }: { volumeDataSql: SQL; limit: number },
): Promise<WaitingOperation[]> {
  return queryRows(
    q,
    sql`select o.set_id as "setId", o.kind, o.owner, o.may_move as "mayMove",
          (o.owner <> 'drain' and o.discards_volume) or (h.draining and coalesce(d.discards_volumes, false)) as "discardsVolume",
          o.attempts, s.host_id as "hostId", h.name as "hostName",
          h.draining as "isHostDraining", s.desired, s.ready as "isAvailable", ${volumeDataSql} as "hasVolumeData",
          ${forcedDrainSql} as "isForced",
          coalesce(o.to_revision, s.revision) as "toRevision",
          exists (select 1 from revisions r where r.service_id = s.service_id and r.number = coalesce(o.to_revision, s.revision)
            and r.template @? '$.networks[*].address') as "hasStaticAddress",
          json_build_object('cpuMillis', coalesce(o.cpu_millis, s.cpu_millis), 'memoryBytes', coalesce(o.memory_bytes, s.memory_bytes),
            'volumeBytes', coalesce(o.volume_bytes, s.volume_bytes)) as to,
          s.cpu_millis::float8 as "cpuMillis", s.memory_bytes::float8 as "memoryBytes", s.volume_bytes::float8 as "volumeBytes"
        from operations o join sets s on s.id = o.set_id join hosts h on h.id = s.host_id
          left join drains d on d.host_id = h.id
        where o.service_id = ${serviceId} and o.phase = 'waiting' and o.due_at <= now() and h.state <> 'lost' and ${liveSetSql}
        order by o.attempts, o.set_id limit ${limit}`,
  );
}

export interface ReplicaCountsRow {
  desired: number;
  live: number;
  available: number;
  notExpected: number;
  surging: number;
}

/** Counts a service's replicas for mayDisrupt, under the service's lock. Uses sets_service. */
export async function readReplicaCounts(
  q: Queryable,
  serviceId: string,
  { desired, minReadySeconds }: { desired: number; minReadySeconds: number },
): Promise<ReplicaCountsRow> {
  const [row] = await queryRows<ReplicaCountsRow>(
    q,
    sql`select (count(*) filter (where is_replica))::int as live,
          (count(*) filter (where is_replica and ready and desired = 'running' and not is_leaving
            and coalesce(ready_since, '-infinity') <= ${secondsAgo(minReadySeconds)}))::int as available,
          (count(*) filter (where is_replica and (desired = 'stopped' or not (was_ready or ready))))::int as "notExpected",
          (count(*) filter (where not is_replica))::int as surging
        from (select s.*, ${replicaSetSql} as is_replica, ${leavingSetSql} as is_leaving from sets s
          where s.service_id = ${serviceId} and ${liveSetSql}) s`,
  );
  const { live = 0, available = 0, notExpected = 0, surging = 0 } = row ?? {};
  return { desired: Math.min(desired, live), live, available, notExpected, surging };
}

/**
 * Stores why operations wait, and when they are due again. Returns the sets whose reason has
 * changed.
 */
export async function blockOperations(
  q: Queryable,
  blocked: readonly { setId: string; reason: Reason; retryAfterMs: number }[],
): Promise<string[]> {
  if (blocked.length === 0) return [];
  const rows = await queryRows<{ id: string; isNews: boolean }>(
    q,
    sql`with wanted as (
          select w.*, o.blocked->>'code' is distinct from w.reason->>'code' as is_news
          from json_to_recordset(${JSON.stringify(blocked)}::json) as w("setId" text, reason jsonb, "retryAfterMs" float8)
          join operations o on o.set_id = w."setId"
        )
        update operations o set blocked = w.reason, attempts = least(o.attempts + 1, 1000),
          due_at = now() + make_interval(secs => w."retryAfterMs" / 1000)
        from wanted w where o.set_id = w."setId" returning o.set_id as id, w.is_news as "isNews"`,
  );
  return rows.filter(({ isNews }) => isNews).map(({ id }) => id);
}

/**
 * Marks sets as being replaced, and returns their ids. An operation that has ended meanwhile is not
 * among them: the caller inserts no replacement for its set.
 */
export async function startReplacing(
  q: Queryable,
  replacements: readonly { setId: string; replacementSetId: string }[],
  deadlineMs: number,
): Promise<Set<string>> {
  const rows = await queryRows<{ id: string }>(
    q,
    sql`update operations o set phase = 'replacing', replacement_set_id = r."replacementSetId", blocked = null,
          due_at = ${secondsFromNow(deadlineMs / 1000)}
        from json_to_recordset(${JSON.stringify(replacements)}::json) as r("setId" text, "replacementSetId" text)
        where o.set_id = r."setId" and o.phase = 'waiting' returning o.set_id as id`,
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
        ), bumped as (
          update hosts set generation = generation + 1 where id in (select host_id from begun) returning id, generation
        )
        update sets s set generation = s.generation + 1, host_generation = b.generation, updated_at = now(), leaving = true,
          revision = coalesce((select to_revision from operations where set_id = s.id), s.revision)
        from bumped b, begun where s.id = begun.id and b.id = begun.host_id returning s.id`,
  );
  return rows.map(({ id }) => id);
}

/** Lets an operation wait again after its replacement missed its deadline. */
export async function waitAgain(
  q: Queryable,
  setId: string,
  { reason, retryAfterMs }: { reason: Reason; retryAfterMs: number },
): Promise<void> {
  await q
    .update(operations)
    .set({
      phase: "waiting",
      replacementSetId: null,
      blocked: reason,
      attempts: sql`least(${operations.attempts} + 1, 1000)`,
      dueAt: secondsFromNow(retryAfterMs / 1000),
    })
    .where(eq(operations.setId, setId));
}

/** Ends operations. Stores with the set an outcome that users should see. */
export async function endOperations(
  q: Queryable,
  setIds: readonly string[],
  ended: EndedOperation | null = null,
): Promise<void> {
  if (setIds.length === 0) return;
  await q.execute(
    sql`with done as (delete from operations where set_id = ${anyOf(setIds)} returning set_id)
        update sets s set last_operation = ${ended === null ? null : JSON.stringify(ended)}::jsonb
        from done where s.id = done.set_id and s.last_operation is distinct from ${ended === null ? null : JSON.stringify(ended)}::jsonb`,
  );
}

/**
 * Makes waiting operations of a service due, because something that they wait for has changed: at
 * most `limit`, those with the fewest attempts first.
 */
export async function wakeOperations(
  q: Queryable,
  serviceId: string,
  limit: number,
): Promise<void> {
  await q.execute(
    sql`update operations set due_at = now() where set_id in (
          select set_id from operations where service_id = ${serviceId} and phase = 'waiting' and due_at > now()
          order by attempts, set_id limit ${limit})`,
  );
}

/**
 * Lists services after `after` with operations that waited past their deadline, in the order of
 * their ids.
 */
export async function listServicesWithExpiredOperations(
  q: Queryable,
  after: string,
  limit: number,
): Promise<string[]> {
  const rows = await queryRows<{ id: string }>(
    q,
    sql`select distinct service_id as id from operations
        where phase = 'waiting' and deadline_at <= now() and service_id > ${after} order by 1 limit ${limit}`,
  );
  return rows.map(({ id }) => id);
}

/**
 * Ends operations of a service that wait past their deadline, at most `limit`. Returns their sets.
 */
export async function expireOperations(
  q: Queryable,
  serviceId: string,
  ended: EndedOperation,
  limit: number,
): Promise<string[]> {
  const rows = await queryRows<{ id: string }>(
    q,
    sql`with expired as materialized (
          select set_id, kind, cpu_millis from operations
          where service_id = ${serviceId} and phase = 'waiting' and deadline_at <= now()
          order by set_id limit ${limit} for update skip locked
        ), resized as (
          update operations o set ${asResize} from expired e
          where o.set_id = e.set_id and e.kind = 'move' and e.cpu_millis is not null
        ), deleted as (
          delete from operations o using expired e
          where o.set_id = e.set_id and not (e.kind = 'move' and e.cpu_millis is not null)
        )
        update sets s set last_operation = ${JSON.stringify(ended)}::jsonb from expired e where s.id = e.set_id returning s.id`,
  );
  return rows.map(({ id }) => id);
}

/**
 * Deletes operations that another change superseded without ending them: a removal, or a move that
 * the previous release finished during an upgrade.
 */
export async function deleteOrphanedOperations(q: Queryable): Promise<void> {
  await q.execute(
    sql`delete from operations o using sets s where s.id = o.set_id
          and (s.deleted_at is not null or s.desired = 'deleted' or (o.phase = 'leaving' and not s.leaving))`,
  );
}
