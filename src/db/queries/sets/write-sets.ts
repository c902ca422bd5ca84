import { and, eq, isNull, ne, type SQL, sql } from "drizzle-orm";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { operations } from "../../schema/operations.ts";
import { sets } from "../../schema/sets.ts";
import { useCustomPlans } from "../../transaction.ts";
import { replicaSetSql } from "../operations/operation-conditions.ts";
import { anyOf, genericPlansFromHere, queryRows } from "../runtime/query.ts";
import { inScope } from "../services/read-services.ts";

/**
 * SQL condition of pending sets. The indexes sets_pending_by_tenant and sets_pending_due serve it.
 */
export const pendingSetSql = sql`state = 'pending' and host_id is null and deleted_at is null`;

export interface NewSets {
  ids: readonly string[];
  tenantId: string;
  serviceId: string;
  revision: number;
  priority: number;
  cpuMillis: number;
  memoryBytes: number;
  volumeBytes: number;
  rootfsBytes: number;
  avoidHostIds?: readonly string[];
}

/** Up to this number of sets, planning the checks of foreign keys costs less than a round trip. */
const CUSTOM_CHECKS_MAX = 10;

/**
 * Inserts pending sets that differ in nothing but their id, inside a transaction.
 *
 * Postgres checks the foreign keys set by set. With custom plans it plans each check, which is
 * half of the time. So the checks of many sets use a generic plan, and later statements do not.
 */
export async function insertPendingSets(q: Queryable, sets: NewSets): Promise<void> {
  const hasGenericChecks = sets.ids.length > CUSTOM_CHECKS_MAX;
  await q.execute(sql`
    insert into sets (id, tenant_id, service_id, revision, priority, cpu_millis, memory_bytes, volume_bytes, rootfs_bytes,
      avoid_host_ids)
    select value, ${sets.tenantId}, ${sets.serviceId}, ${sets.revision}, ${sets.priority}, ${sets.cpuMillis},
      ${sets.memoryBytes}, ${sets.volumeBytes}, ${sets.rootfsBytes}, ${JSON.stringify(sets.avoidHostIds ?? [])}::jsonb
    from json_array_elements_text(${JSON.stringify(sets.ids)}::json)
    ${hasGenericChecks ? sql`where ${genericPlansFromHere}` : sql``}`);
  if (hasGenericChecks) await useCustomPlans(q);
}

/** Counts the replicas of a service. */
export async function countLiveSets(q: Queryable, serviceId: string): Promise<number> {
  const rows = await queryRows<{ live: number }>(
    q,
    sql`select count(*)::int as live from sets s where s.service_id = ${serviceId} and ${replicaSetSql}`,
  );
  return rows[0]?.live ?? 0;
}

/** Lists the hosts of these sets. The caller locks them, and reads the sets again. */
export async function listHostsOfSets(q: Queryable, setIds: readonly string[]): Promise<string[]> {
  if (setIds.length === 0) return [];
  const rows = await queryRows<{ id: string }>(
    q,
    sql`select distinct host_id as id from sets where id = ${anyOf(setIds)} and host_id is not null`,
  );
  return rows.map(({ id }) => id);
}

/** Locks hosts in id order: before any of their sets. */
export async function lockHosts(q: Queryable, hostIds: readonly string[]): Promise<void> {
  if (hostIds.length === 0) return;
  await q.execute(sql`select id from hosts
    where id = ${anyOf(hostIds)} order by id for no key update`);
}

/**
 * Locks those of the hosts whose rows are free, and returns their ids. Use it for work that can
 * leave a host to its next round: reports hold the rows of busy hosts one after the other.
 */
export async function lockFreeHosts(q: Queryable, hostIds: readonly string[]): Promise<string[]> {
  if (hostIds.length === 0) return [];
  const rows = await queryRows<{ id: string }>(q, selectFreeHosts(sql`id`, hostIds));
  return rows.map(({ id }) => id);
}

/** A statement that locks those of the hosts whose rows are free, and reads them. */
export function selectFreeHosts(columns: SQL, hostIds: readonly string[]): SQL {
  return sql`select ${columns} from hosts
    where id = ${anyOf(hostIds)} order by id for no key update skip locked`;
}

/**
 * Updates the priority of a service's pending sets. They have no hosts, so the caller locks none.
 */
export async function updatePendingPriority(
  q: Queryable,
  serviceId: string,
  priority: number,
): Promise<void> {
  await q
    .update(sets)
    .set({ priority })
    .where(and(eq(sets.serviceId, serviceId), pendingSetSql, ne(sets.priority, priority)));
}

export interface ChangedSet {
  id: string;
  hostId: string | null;
  serviceId: string;
}

/**
 * Marks sets for deletion. Pending sets are deleted immediately, placed ones when their agent
 * reports them absent. The caller has locked their hosts. The result omits a set on another host:
 * the caller retries it.
 */
export async function markSetsDeleted(
  q: Queryable,
  setIds: readonly string[],
  lockedHostIds: readonly string[],
): Promise<ChangedSet[]> {
  return queryRows(
    q,
    sql`with wanted as (
          select s.id, s.host_id from sets s
          where s.id = ${anyOf(setIds)}
            and s.deleted_at is null and s.desired <> 'deleted'
            and (s.host_id is null or s.host_id = ${anyOf(lockedHostIds)})
          order by s.id for no key update
        ), bumped as (
          update hosts set generation = generation + 1
          where id in (select host_id from wanted where host_id is not null) returning id, generation
        ), superseded as (
          delete from operations where set_id in (select id from wanted)
        )
        update sets s set desired = 'deleted', generation = s.generation + 1, updated_at = now(), leaving = false,
          ready = false, host_generation = coalesce((select generation from bumped where id = s.host_id), s.host_generation),
          state = case when s.host_id is null then 'stopped' when s.state = 'lost' then 'lost' else 'stopping' end,
          deleted_at = case when s.host_id is null then now() end
        from wanted w where w.id = s.id
        returning s.id, s.host_id as "hostId", s.service_id as "serviceId"`,
  );
}

/** A set as changes read it. */
export interface SetRow {
  id: string;
  tenantId: string;
  serviceId: string;
  generation: number;
  desired: "running" | "stopped" | "deleted";
  state: string;
  revision: number;
  hostId: string | null;
  /** The operation in progress, if any. */
  operation: string | null;
}

export async function findSet(
  q: Queryable,
  setId: string,
  scope: string | null,
): Promise<SetRow | undefined> {
  const { id, tenantId, serviceId, generation, desired, state, revision, hostId } = sets;
  const operation = operations.kind;
  const rows = await q
    .select({ id, tenantId, serviceId, generation, desired, state, revision, hostId, operation })
    .from(sets)
    .leftJoin(operations, eq(operations.setId, id))
    .where(and(eq(id, setId), isNull(sets.deletedAt), inScope(tenantId, scope)));
  return rows[0];
}

/** A change of one placed set. Omitted members do not change. */
export interface SetChange {
  desired?: "running" | "stopped";
  /** Berth creates its containers again. The set is ready once its agent reports those ready. */
  restart?: boolean;
}

/**
 * Changes a set on the host that the caller has locked. Returns undefined if the set is deleted or
 * on another host.
 */
export async function updatePlacedSet(
  q: Queryable,
  setId: string,
  hostId: string,
  change: SetChange,
): Promise<{ generation: number } | undefined> {
  const rows = await queryRows<{ generation: number }>(
    q,
    sql`with bumped as (update hosts set generation = generation + 1 where id = ${hostId} returning generation)
        update sets set generation = sets.generation + 1, host_generation = bumped.generation, updated_at = now(),
          desired = coalesce(${change.desired ?? null}, desired),
          restart_generation = case when ${change.restart ?? false} then sets.generation + 1 else restart_generation end,
          ready = ready and not ${change.restart ?? false}
        from bumped where id = ${setId} and host_id = ${hostId} and sets.desired <> 'deleted'
        returning sets.generation::float8 as generation`,
  );
  return rows[0];
}

/**
 * Makes sets that wait for capacity due now, the next retries first. Sets that failed to start keep
 * their backoff: each of them frees capacity, so they would wake each other indefinitely. Sets with
 * a claim wait for the mover. Returns whether a set is due now. It skips locked sets. Uses
 * sets_pending_due.
 */
export async function retryPendingSets(q: Queryable, setsMax: number): Promise<boolean> {
  const rows = await queryRows<{ id: string }>(
    q,
    sql`update sets set plan_after = now()
        where id in (select id from sets where ${pendingSetSql} and desired <> 'deleted' and plan_after > now() and failed_starts = 0
          and not exists (select 1 from claims where set_id = sets.id) order by plan_after limit ${setsMax} for no key update skip locked)
        returning id`,
  );
  return rows.length > 0;
}

/**
 * Finds for how long the most overdue pending set is due. Returns undefined if none is due. (Index
 * sets_pending_due.)
 */
export async function findLongestOverdueMs(q: Queryable): Promise<number | undefined> {
  const rows = await queryRows<{ dueMs: number }>(
    q,
    sql`select (extract(epoch from now() - plan_after) * 1000)::float8 as "dueMs" from sets
        where ${pendingSetSql} and desired <> 'deleted' and plan_after <= now() order by plan_after limit 1`,
  );
  return rows[0]?.dueMs;
}
