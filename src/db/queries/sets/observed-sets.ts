import { type SQL, sql } from "drizzle-orm";
import type { Reason } from "../../../contracts/common/primitives.ts";
import type { ContainerStatus, SetState } from "../../../contracts/api/sets.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { asResize } from "../operations/end-operations.ts";
import { leavingSetSql } from "../operations/operation-conditions.ts";
import { unconfirmedCopySql } from "../hosts/unknown-sets.ts";
import { anyOf, queryRows, secondsAgo } from "../runtime/query.ts";

/** The same time as STARTUP_MS_MAX of the scheduler. */
export const STARTUP_SECONDS_MAX = 120;

/**
 * SQL condition: set `s` counts as unreported. A set that is removed before it ran counts until its
 * release, so that the release subtracts only an amount that the sum contains.
 */
export const unreportedSetSql = sql`(s.state in ('placed', 'preparing')
  or (s.state = 'starting' and ${startedLately()})
  or (s.state in ('stopping', 'failed') and s.running_at is null and (s.desired = 'deleted' or ${leavingSetSql}) and ${startedLately()}))`;

function startedLately(): SQL {
  return sql`coalesce(s.starting_at > ${secondsAgo(STARTUP_SECONDS_MAX)}, true)`;
}

/**
 * The part of the booking of set `s` that its host's measurement does not contain, by dimension.
 * The formula is that of `unreportedAmounts` in scheduler/placement. A running set has no such
 * part, because the measurement contains all that it uses. The same holds for a set that has been
 * in the state `starting` for longer than STARTUP_SECONDS_MAX.
 * @param setMemory what the host measures of each set: a jsonb object of bytes by id
 * @param isCounted which sets the host's sum contains
 */
export function unreportedColumns(setMemory: SQL, isCounted: SQL = unreportedSetSql): SQL {
  const part = (booked: SQL, used: SQL): SQL =>
    sql`case when ${isCounted} then greatest(0, ${booked} - ${used}) else 0 end`;
  return sql`${part(sql`s.cpu_millis`, sql`0`)} as unreported_cpu,
    ${part(sql`s.memory_bytes + s.overhead_memory_bytes`, sql`coalesce((${setMemory}->>s.id)::bigint, 0)`)} as unreported_memory,
    ${part(
      sql`s.volume_bytes`,
      sql`coalesce((select sum(size_bytes)::bigint from volumes where host_id = s.host_id and set_id = s.id and state = 'live'), 0)`,
    )} as unreported_volume,
    ${part(sql`s.rootfs_bytes + s.overhead_rootfs_bytes`, sql`0`)} as unreported_rootfs`;
}

export interface HostSetRow {
  id: string;
  tenantId: string;
  serviceId: string;
  generation: number;
  desired: "running" | "stopped" | "deleted";
  state: SetState;
  ready: boolean;
  reason: Reason | null;
  sized: boolean;
  /** A resize is being applied, so that a refusal reverts it. */
  canRevertSize: boolean;
  /** An update in place is in progress. */
  isUpdating: boolean;
  /** A rollout of its service is active. */
  hasRollout: boolean;
  /** An operation waits for the set: its own, or that of a set that it replaces. */
  isAwaited: boolean;
  /** The set leaves its host to be placed again. */
  leaving: boolean;
  /** Capacity is booked for the set on its next host. */
  hasClaim: boolean;
  /** Another host has the set as an unknown one, and awaits the report that it is ready here. */
  hasUnconfirmedCopy: boolean;
  attempts: number;
  avoidHostIds: string[];
  containers: ContainerStatus[];
}

/**
 * Locks those of the named sets that are booked on this host. The caller has locked the host.
 */
export async function lockSetsOnHost(
  q: Queryable,
  hostId: string,
  setIds: readonly string[],
): Promise<HostSetRow[]> {
  return queryRows(
    q,
    sql`select s.id, s.tenant_id as "tenantId", s.service_id as "serviceId", s.generation::float8 as generation, s.desired,
          s.state, s.ready, s.reason, s.sized, coalesce(o.phase = 'applying', false) as "canRevertSize",
          coalesce(s.leaving and o.phase = 'leaving', false) as leaving,
          coalesce(o.phase = 'updating', false) as "isUpdating",
          exists (select 1 from rollouts r where r.service_id = s.service_id and r.state in ('running', 'paused', 'rolling-back')) as "hasRollout",
          o.set_id is not null or exists (select 1 from operations n where n.replacement_set_id = s.id) as "isAwaited",
          exists (select 1 from claims where set_id = s.id) as "hasClaim", ${unconfirmedCopySql} as "hasUnconfirmedCopy", s.attempts, s.avoid_host_ids as "avoidHostIds", s.containers
        from sets s left join operations o on o.set_id = s.id
        where s.host_id = ${hostId} and s.id = ${anyOf(setIds)}
        order by s.id for no key update of s`,
  );
}

export interface ObservedUpdate {
  setId: string;
  state: SetState;
  ready: boolean;
  reason: Reason | null;
  address: string | null;
  sized: boolean;
  containers: ContainerStatus[];
}

/**
 * Stores the states that an agent observed, and returns the ids of the sets that changed. A running
 * set resets its failed attempts.
 *
 * After a restart of Postgres, each agent repeats the reports of all its sets. The statement writes
 * no row that already has the reported values. The caller has locked the sets.
 */
export async function updateObservedSets(
  q: Queryable,
  hostId: string,
  updates: readonly ObservedUpdate[],
): Promise<string[]> {
  if (updates.length === 0) return [];
  const columns = sql.raw(observedColumns.map((name) => `s.${name}`).join(", "));
  const values = sql.raw(observedColumns.map((name) => `n.${name}`).join(", "));
  const assignments = sql.raw(observedColumns.map((name) => `${name} = n.${name}`).join(", "));
  const rows = await queryRows<{ id: string }>(
    q,
    sql`
    update sets s set ${assignments}, updated_at = now()
    from (
      select s.id, o.state, o.ready, o.reason, o.address, o.containers,
        s.sized or o.sized as sized, s.was_ready or s.ready or o.ready as was_ready,
        case when o.ready then case when s.ready then coalesce(s.ready_since, now()) else now() end end as ready_since,
        case when not o.ready then case when s.ready then now() else s.unready_since end end as unready_since,
        case when o.state = 'starting' then coalesce(s.starting_at, now()) else s.starting_at end as starting_at,
        case when o.state = 'running' then coalesce(s.running_at, now()) else s.running_at end as running_at,
        case when o.state = 'running' then 0 else s.attempts end as attempts,
        case when o.state = 'running' then 0 else s.failed_starts end as failed_starts,
        case when o.state = 'running' then '[]' else s.avoid_host_ids end as avoid_host_ids
      from json_to_recordset(${JSON.stringify(updates)}::json) as o("setId" text, state text, ready boolean, reason jsonb,
        address text, sized boolean, containers jsonb)
      join sets s on s.id = o."setId" where s.host_id = ${hostId}
    ) n
    where s.id = n.id and (${columns}) is distinct from (${values})
    returning s.id`,
  );
  return rows.map(({ id }) => id);
}

/** The columns of a set that a report of its agent determines. */
const observedColumns = [
  "state",
  "ready",
  "reason",
  "address",
  "containers",
  "sized",
  "was_ready",
  "ready_since",
  "unready_since",
  "starting_at",
  "running_at",
  "attempts",
  "failed_starts",
  "avoid_host_ids",
] as const;

/**
 * Removes sets from a host that abandoned their start, to place them elsewhere. A set that an
 * update broke stays: its rollout decides, within the budget.
 */
export async function markSetsLeaving(
  q: Queryable,
  hostId: string,
  setIds: readonly string[],
): Promise<void> {
  if (setIds.length === 0) return;
  await q.execute(sql`
    with begun as (
      insert into operations (set_id, service_id, kind, phase, owner)
      select id, service_id, 'move', 'leaving', 'start-failed' from sets where id = ${anyOf(setIds)}
      on conflict (set_id) do update set phase = 'leaving', blocked = null where operations.phase not in ('replacing', 'updating')
      returning set_id
    ), bumped as (
      update hosts set generation = generation + 1 where id = ${hostId} and exists (select 1 from begun) returning generation
    )
    update sets set generation = sets.generation + 1, host_generation = bumped.generation, leaving = true,
      attempts = least(attempts + 1, 1000), failed_starts = least(failed_starts + 1, 1000), updated_at = now()
    from bumped, begun where id = begun.set_id`);
}

/**
 * Ends updates whose sets are ready with their new containers. A size that a resize requested
 * meanwhile waits as a resize. The caller has locked the host and the sets.
 */
export async function confirmUpdates(q: Queryable, setIds: readonly string[]): Promise<void> {
  if (setIds.length === 0) return;
  await q.execute(
    sql`with resized as (
          update operations o set ${asResize} where set_id = ${anyOf(setIds)} and phase = 'updating' and cpu_millis is not null
        )
        delete from operations where set_id = ${anyOf(setIds)} and phase = 'updating' and cpu_millis is null`,
  );
}

/**
 * The mover places a released set with a claim on the host of the claim. If it does not within this
 * time, the placer places the set anywhere.
 */
const CLAIM_SECONDS_MAX = 30;

export interface ReleasedSet {
  setId: string;
  /** It is placed again: not before this long, and not on this host as long as there is another. */
  placeAgain: { retryAfterMs: number; avoidHostIds: string[] } | null;
}

/**
 * Ends the bookings of sets that their host reports absent. Each is deleted, or pending again with
 * the revision and the size of its operation. No other statement clears host_id.
 */
export async function releaseSets(
  q: Queryable,
  hostId: string,
  released: readonly ReleasedSet[],
): Promise<void> {
  if (released.length === 0) return;
  const rows = released.map((set) => ({
    setId: set.setId,
    again: set.placeAgain !== null,
    retryAfterMs: set.placeAgain?.retryAfterMs ?? 0,
    avoidHostIds: set.placeAgain?.avoidHostIds ?? [],
  }));
  const setMemoryOfHost = sql`(select set_memory from hosts where id = s.host_id)`;
  // A set that began to run after the host's last report is still in the sum, which only a report
  // computes again.
  const isInSum = sql`(${unreportedSetSql} or s.running_at > (select reported_at from hosts where id = s.host_id))`;
  await q.execute(sql`
    with going as materialized (
      select s.id, s.cpu_millis, s.memory_bytes, s.volume_bytes, s.rootfs_bytes, s.overhead_memory_bytes, s.overhead_rootfs_bytes, o.again, o."retryAfterMs", o."avoidHostIds",
        coalesce(p.to_revision, s.revision) as revision, coalesce(p.cpu_millis, s.cpu_millis) as cpu,
        coalesce(p.memory_bytes, s.memory_bytes) as memory,
        case when s.restore_volume_id is null then coalesce(p.volume_bytes, s.volume_bytes) else s.volume_bytes end as volume,
        ${unreportedColumns(setMemoryOfHost, isInSum)}
      from json_to_recordset(${JSON.stringify(rows)}::json) as o("setId" text, again boolean, "retryAfterMs" float8, "avoidHostIds" jsonb)
      join sets s on s.id = o."setId" left join operations p on p.set_id = s.id
      where s.host_id = ${hostId}
    ), ended as (
      delete from operations where set_id in (select id from going)
    ), gone as (
      update sets s set host_id = null, address = null, ready = false, ready_since = null, updated_at = now(),
        generation = s.generation + 1, containers = '[]', leaving = false,
        state = case when g.again then 'pending' else 'stopped' end,
        deleted_at = case when g.again then null else now() end,
        revision = g.revision, cpu_millis = g.cpu, memory_bytes = g.memory, volume_bytes = g.volume,
        sized = true, last_operation = null,
        avoid_host_ids = g."avoidHostIds", plan_after = now() + make_interval(secs => greatest(g."retryAfterMs" / 1000,
          case when exists (select 1 from claims where set_id = s.id) then ${CLAIM_SECONDS_MAX} else 0 end))
      from going g where s.id = g.id
    )
    update hosts set allocated_cpu_millis = allocated_cpu_millis - g.cpu, allocated_memory_bytes = allocated_memory_bytes - g.memory,
      allocated_volume_bytes = allocated_volume_bytes - g.volume, allocated_rootfs_bytes = allocated_rootfs_bytes - g.rootfs,
      overhead_memory_bytes = greatest(0, overhead_memory_bytes - g.overhead_memory),
      overhead_rootfs_bytes = greatest(0, overhead_rootfs_bytes - g.overhead_rootfs),
      unreported_cpu_millis = greatest(0, unreported_cpu_millis - g.unreported_cpu),
      unreported_memory_bytes = greatest(0, unreported_memory_bytes - g.unreported_memory),
      unreported_volume_bytes = greatest(0, unreported_volume_bytes - g.unreported_volume),
      unreported_rootfs_bytes = greatest(0, unreported_rootfs_bytes - g.unreported_rootfs)
    from (select coalesce(sum(cpu_millis), 0) as cpu, coalesce(sum(memory_bytes), 0) as memory,
            coalesce(sum(volume_bytes), 0) as volume, coalesce(sum(rootfs_bytes), 0) as rootfs,
            coalesce(sum(overhead_memory_bytes), 0) as overhead_memory, coalesce(sum(overhead_rootfs_bytes), 0) as overhead_rootfs,
            coalesce(sum(unreported_cpu), 0) as unreported_cpu, coalesce(sum(unreported_memory), 0) as unreported_memory,
            coalesce(sum(unreported_volume), 0) as unreported_volume, coalesce(sum(unreported_rootfs), 0) as unreported_rootfs
          from going) g
    where id = ${hostId}`);
}
