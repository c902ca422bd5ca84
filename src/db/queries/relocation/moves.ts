import { type SQL, sql } from "drizzle-orm";
import type { Reason } from "../../../contracts/common/primitives.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { isBeingReplaced } from "../services/resizes.ts";
import { anyOf, rowsOf } from "../runtime/query.ts";

/** Marks sets to be moved off their hosts; afterwards they are, or what replaces them is, of that revision. */
export async function markSetsMoving(
  q: Queryable,
  moves: readonly { setId: string; revision: number }[],
): Promise<void> {
  await q.execute(sql`
    update sets s set move_revision = m.revision, held_back = null, updated_at = now()
    from json_to_recordset(${JSON.stringify(moves)}::json) as m("setId" text, revision int)
    where s.id = m."setId" and s.deleted_at is null and s.desired <> 'deleted'`);
}

/**
 * Sets that go are to be of another revision where they come to. Nothing changes where they still are: what replaces them, or
 * they themselves once they are released there, are of it.
 */
export async function retargetSets(
  q: Queryable,
  setIds: readonly string[],
  revision: number,
): Promise<void> {
  if (setIds.length === 0) return;
  await q.execute(sql`
    update sets set revision = case when leaving then ${revision}::int else revision end,
      move_revision = case when leaving then null else ${revision}::int end, former_revision = case when leaving then null else former_revision end
    where id = ${anyOf(setIds)} and deleted_at is null`);
}

/** Stores why what was asked for these sets is not done; null: it is. Gives those of which it is news. */
export async function holdSetsBack(
  q: Queryable,
  held: readonly { setId: string; reason: Reason | null }[],
): Promise<string[]> {
  const rows = await rowsOf<{ id: string }>(
    q,
    sql`update sets s set held_back = o.reason, updated_at = now()
        from json_to_recordset(${JSON.stringify(held)}::json) as o("setId" text, reason jsonb)
        where s.id = o."setId" and s.held_back - 'at' is distinct from o.reason - 'at' returning s.id`,
  );
  return rows.map(({ id }) => id);
}

/** The host is not being drained (any more): nothing waits for room elsewhere because of that. */
export async function forgetHeldDrains(q: Queryable, hostId: string): Promise<void> {
  await q.execute(sql`update sets set held_back = null
    where host_id = ${hostId} and move_revision is null and held_back->>'code' in ('move-held', 'move-waits')`);
}

/** A set to be moved off its host, as it is now and as it is to be. */
export interface MovingSet {
  id: string;
  serviceId: string;
  hostId: string;
  hostName: string;
  desired: "running" | "stopped";
  revision: number;
  /** Of what it, or what replaces it, is to be. */
  toRevision: number;
  cpuMillis: number;
  memoryBytes: number;
  volumeBytes: number;
}

/**
 * `departing`: sets that are to leave their hosts, being marked or on hosts that are being drained, each with the unsettled sets of its
 * service: the first and the last of those that are not settled yet or have not left their host, whose room may be of use. Nobody waits
 * for what a host does that says nothing, and nothing is known of sets on lost hosts: their service's policy says what becomes of them.
 *
 * One step after the other, each with what the one before found: as one join Postgres compared all sets of a service with each other as
 * long as it had no statistics, and that nothing is to move is true nearly always. Uses sets_moving, sets_host and sets_service.
 */
const departingSets = (serviceId?: string): SQL => sql`
    candidate as materialized (
      select s.*, h.name as host_name from sets s join hosts h on h.id = s.host_id
      where s.id = any (array(select id from sets where move_revision is not null
          union select id from sets where host_id = any (array(select id from hosts where draining))))
        and s.desired <> 'deleted' and not s.leaving and h.state <> 'lost'
        ${serviceId === undefined ? sql`` : sql`and s.service_id = ${serviceId}`}
    ), unsettled as materialized (
      select o.service_id, min(o.id) as first_id, max(o.id) as last_id
      from sets o left join hosts oh on oh.id = o.host_id
      where o.service_id = any (array(select distinct service_id from candidate))
        and o.deleted_at is null and (oh.id is null or oh.state = 'ready')
        and (o.leaving or o.replaces is not null or o.desired = 'deleted'
          or (o.desired = 'running' and o.state in ('pending', 'placed', 'preparing', 'starting')))
      group by o.service_id
    ), departing as materialized (
      select s.*, u.service_id is not null and (u.first_id <> s.id or u.last_id <> s.id) as has_to_wait
      from candidate s left join unsettled u on u.service_id = s.service_id
    )`;

/** Sets to move next: one of each service at a time, those first that nothing has held back; services in the order of their ids, after one. */
export async function listSetsToMove(
  q: Queryable,
  { serviceId, after = "", limit }: { serviceId?: string; after?: string; limit: number },
): Promise<MovingSet[]> {
  return rowsOf(
    q,
    sql`with ${departingSets(serviceId)}
        select distinct on (s.service_id) s.id, s.service_id as "serviceId", s.host_id as "hostId", s.host_name as "hostName", s.desired,
          s.revision, coalesce(s.move_revision, s.revision) as "toRevision", s.cpu_millis::float8 as "cpuMillis",
          s.memory_bytes::float8 as "memoryBytes", s.volume_bytes::float8 as "volumeBytes"
        from departing s where not s.has_to_wait and s.service_id > ${after}
        order by s.service_id, s.held_back is not null, s.id limit ${limit}`,
  );
}

/** Stores with those that are to leave, wait for others, and say nothing yet, that they do (I5). */
export async function noteWaitingMoves(q: Queryable, limit: number): Promise<void> {
  await q.execute(sql`
    with ${departingSets()}
    update sets set held_back = jsonb_build_object('code', 'move-waits', 'phase', 'placement',
      'text', 'it is to leave its host once the other sets of its service are settled: one moves at a time')
    where id = any (array(select id from departing where held_back is null and has_to_wait limit ${limit}))`);
}

/** Ends the move of a set that needs none any more. */
export async function endMove(q: Queryable, setId: string): Promise<void> {
  await q.execute(sql`update sets set move_revision = null, held_back = null where id = ${setId}`);
}

/** A set whose replacement is ready, so that it can go. */
export interface ReplacedSet {
  id: string;
  serviceId: string;
  hostId: string | null;
  replacementId: string;
}

/** Uses sets_replaces, as does what follows. */
export async function listReplacedSets(
  q: Queryable,
  { serviceId, limit }: { serviceId?: string; limit: number },
): Promise<ReplacedSet[]> {
  return rowsOf(
    q,
    sql`select s.id, s.service_id as "serviceId", s.host_id as "hostId", n.id as "replacementId"
        from sets n join sets s on s.id = n.replaces
        where n.replaces is not null and n.deleted_at is null and n.desired = 'running' and n.state = 'running' and n.ready
          and s.deleted_at is null and s.desired = 'running' ${serviceId === undefined ? sql`` : sql`and s.service_id = ${serviceId}`}
        order by s.id limit ${limit}`,
  );
}

/** Replacements of sets that somebody has stopped meanwhile: those stay as they are, and nothing takes their place. */
export async function listNeedlessReplacements(
  q: Queryable,
  { serviceId, limit }: { serviceId?: string; limit: number },
): Promise<Pick<ReplacedSet, "id" | "serviceId" | "hostId">[]> {
  return rowsOf(
    q,
    sql`select n.id, n.service_id as "serviceId", n.host_id as "hostId"
        from sets n join sets s on s.id = n.replaces
        where n.replaces is not null and n.deleted_at is null and n.desired <> 'deleted' and s.deleted_at is null and s.desired = 'stopped'
          ${serviceId === undefined ? sql`` : sql`and n.service_id = ${serviceId}`}
        order by n.id limit ${limit}`,
  );
}

/** What a set was to replace has gone, or is about to: it is one of its service's like any other. */
export async function endReplacements(q: Queryable): Promise<void> {
  await q.execute(sql`
    update sets n set replaces = null where n.replaces is not null
      and not exists (select 1 from sets s where s.id = n.replaces and s.deleted_at is null and s.desired <> 'deleted')`);
}

/** True as long as a set is to be replaced by one that lives. */
export async function isReplaced(q: Queryable, setId: string): Promise<boolean> {
  const rows = await rowsOf<{ isReplaced: boolean }>(
    q,
    sql`select ${isBeingReplaced} as "isReplaced" from sets s where s.id = ${setId}`,
  );
  return rows[0]?.isReplaced ?? false;
}
