import { type SQL, sql } from "drizzle-orm";
import type { ContainerOverhead } from "../../../contracts/api/container-overhead.ts";
import { renderEventText } from "../../../contracts/api/event-texts.ts";
import { renderReasonText } from "../../../contracts/api/reason-texts.ts";
import { AppError } from "../../../contracts/common/app-error.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { booked, setSums } from "../hosts/bookings.ts";
import { genericPlansFromHere, isLockTimeout, queryRows } from "../runtime/query.ts";

/** An arbitrary constant, the same in all job workers. */
const placementLockKey = 7_134_203;

/**
 * Takes the placement lock until the transaction ends, so that one job worker plans and commits at
 * a time. Planning is a small part of a placement, so a second planner would add conflicts and no
 * speed. Returns false if another job worker has the lock. The statement never waits.
 *
 * The later statements of the transaction use generic plans: each finds its rows by an index.
 */
export async function tryLockPlacement(tx: Queryable): Promise<boolean> {
  const [row] = await queryRows<{ isLocked: boolean }>(
    tx,
    sql`select set_config('plan_cache_mode', 'force_generic_plan', true),
          pg_try_advisory_xact_lock(${placementLockKey}) as "isLocked"`,
  );
  return row?.isLocked === true;
}

/**
 * Takes the placement lock like `tryLockPlacement`, but waits for it. It goes before job workers
 * that try the lock. Call it before all locks of rows. Throws overloaded after `waitMs`.
 *
 * Later waits of the transaction have the same limit, so that it never holds the lock for long.
 */
export async function lockPlacement(tx: Queryable, waitMs: number): Promise<void> {
  try {
    await tx.execute(sql`select set_config('lock_timeout', ${String(waitMs)}, true)`);
    await tx.execute(sql`select pg_advisory_xact_lock(${placementLockKey})`);
  } catch (error) {
    if (!isLockTimeout(error)) throw error;
    throw new AppError("overloaded", {
      detail: "Berth places many sets. Retry the request later.",
      retryAfterMs: waitMs,
    });
  }
}

interface RepulsionRow {
  tenantId: string;
  /** The name of the repelled service, which need not exist. */
  name: string;
  byServiceIds: string[];
}

/**
 * Services with sets whose anti-affinity rules name one of these services. A service without sets
 * forbids nothing, so the quota of sets bounds the result. Uses services_repelled_names.
 */
export async function listRepulsions(
  q: Queryable,
  names: readonly { tenantId: string; name: string }[],
): Promise<RepulsionRow[]> {
  if (names.length === 0) return [];
  return queryRows(
    q,
    sql`select w."tenantId", w.name, array_agg(o.id order by o.id) as "byServiceIds"
        from json_to_recordset(${JSON.stringify(names)}::json) as w("tenantId" text, name text)
          join services o on repelled_names(o.tenant_id, o.placement) @> array[w."tenantId" || '/' || w.name]
            and ${repellingServiceSql("o")}
        where exists (select 1 from sets s where s.service_id = o.id and s.deleted_at is null)
        group by w."tenantId", w.name`,
  );
}

/** The condition of the index services_repelling. */
export function repellingServiceSql(alias: string): SQL {
  return sql.raw(
    `${alias}.deleted_at is null and ${alias}.placement->'antiAffinity' <> '[]'::jsonb`,
  );
}

/** Sets that leave a host for good: one that is replaced, or all that are ordered deleted. */
export interface DepartingSets {
  hostId: string;
  sets: number;
  /** The set that replaces the one. Null for sets that are ordered deleted. */
  replacementId: string | null;
  /** The replacement has no host yet, so the replaced set still counts for spread. */
  isCounted: boolean;
}

/**
 * The departing sets of a service, as a list of DepartingSets. They are being replaced, or they are
 * ordered deleted and not yet absent. `serviceId` is an expression. Uses operations_service and
 * sets_removing_service.
 */
export function selectDepartingSets(serviceId: SQL): SQL {
  return sql`(select coalesce(json_agg(departing), '[]') from (
    select r.host_id as "hostId", 1 as sets, n.id as "replacementId", n.host_id is null as "isCounted"
      from operations p join sets r on r.id = p.set_id join sets n on n.id = p.replacement_set_id
      where p.service_id = ${serviceId} and p.phase = 'replacing' and r.host_id is not null and r.desired <> 'deleted'
    union all
    select d.host_id, count(*), null, false from sets d
      where d.service_id = ${serviceId} and d.desired = 'deleted' and d.host_id is not null group by d.host_id) departing)`;
}

/**
 * The departing sets of a service. Its `maxSurge` bounds the replacements. The others are one entry
 * for each host, at most as many as the hosts of the service.
 */
export async function listDepartingSets(q: Queryable, serviceId: string): Promise<DepartingSets[]> {
  const [row] = await queryRows<{ departing: DepartingSets[] }>(
    q,
    sql`select ${selectDepartingSets(sql`${serviceId}`)} as departing`,
  );
  return row?.departing ?? [];
}

/** Ids of live services by tenant and name. It leaves out unknown names. */
export async function listServiceIds(
  q: Queryable,
  names: readonly { tenantId: string; name: string }[],
): Promise<{ tenantId: string; name: string; id: string }[]> {
  if (names.length === 0) return [];
  const rows = await queryRows<{ tenantId: string; name: string; id: string | null }>(
    q,
    sql`select w."tenantId", w.name,
          (select s.id from services s where s.tenant_id = w."tenantId" and s.name = w.name and s.deleted_at is null) as id
        from json_to_recordset(${JSON.stringify(names)}::json) as w("tenantId" text, name text)`,
  );
  return rows.flatMap(({ id, ...named }) => (id === null ? [] : { ...named, id }));
}

export interface PlacementInput {
  placementId: string;
  setId: string;
  hostId: string;
  generation: number;
  /** Booked in addition to the amounts of the set. */
  overhead: ContainerOverhead;
  score: number;
  because: Readonly<Record<string, number>>;
}

export interface CommittedPlacement {
  setId: string;
  hostId: string;
  serviceId: string;
}

/**
 * Books sets on hosts, and returns the bookings. The caller has locked and checked the hosts. Or it
 * books one set and names the `hostVersion` of the plan: then this statement locks the host.
 *
 * It skips a set that was deleted or placed since it was read, and a host of another version. One
 * statement writes sets, hosts, placements and events, so that they agree. It locks hosts, then
 * sets. For one set its generic plan is cached (see tryLockPlacement).
 */
export async function commitPlacements(
  q: Queryable,
  placements: readonly PlacementInput[],
  policyVersion: number,
  hostVersion?: string,
): Promise<CommittedPlacement[]> {
  const [only, ...others] = placements;
  // With both keys as constants only one plan is possible. A larger batch gets a custom plan, and
  // then returns to generic plans, because Postgres checks foreign keys set by set.
  const isOnly =
    only && others.length === 0 ? sql`and s.id = ${only.setId} and h.id = ${only.hostId}` : sql``;
  const hosts =
    hostVersion === undefined
      ? sql`hosts`
      : sql`(select id, name, generation from hosts where changed_xid = ${hostVersion}::xid8 and id = ${only?.hostId} for no key update)`;
  return queryRows(
    q,
    sql`with planned as materialized (
          select * from json_to_recordset(${JSON.stringify(placements)}::json) as p(
            "placementId" text, "setId" text, "hostId" text, generation bigint, score bigint, because jsonb,
            overhead json)
          where ${genericPlansFromHere}
        ), moved as (
          update sets s set state = 'placed', host_id = p."hostId", host_generation = h.generation + 1,
            generation = s.generation + 1, placed_at = now(), updated_at = now(), reason = null, address = null,
            containers = '[]', starting_at = null, running_at = null, ready = false,
            overhead_memory_bytes = (p.overhead->>'memoryBytes')::bigint, overhead_rootfs_bytes = (p.overhead->>'rootfsBytes')::bigint,
            restore_volume_id = case
              -- On another host it starts with a new volume: a user or a policy has decided that.
              when s.restore_volume_id is null then null
              when exists (select 1 from volumes where id = s.restore_volume_id and volumes.host_id = p."hostId") then s.restore_volume_id end
          from planned p join ${hosts} h on h.id = p."hostId"
          where s.id = p."setId" and s.state = 'pending' and s.desired <> 'deleted' and s.generation = p.generation ${isOnly}
          returning s.id, s.tenant_id, s.service_id, s.host_id, s.generation, s.cpu_millis, s.memory_bytes,
            s.volume_bytes, s.rootfs_bytes, s.overhead_memory_bytes, s.overhead_rootfs_bytes, p."placementId" as placement_id, p.score, p.because, h.name as host_name
        ), booked as (
          update hosts h set generation = h.generation + 1, ${booked}
          from (select host_id, ${setSums} from moved group by host_id) b
          where h.id = b.host_id
        ), recorded as (
          insert into placements (id, set_id, host_id, generation, policy_version, score, because)
          select placement_id, id, host_id, generation, ${policyVersion}, score, because from moved
        ), cleared as (
          delete from rejections where set_id in (select id from moved)
        ), recorded_events as (
          insert into events (kind, tenant_id, service_id, set_id, host_id, generation, text, data)
          select 'set-placed', tenant_id, service_id, id, host_id, generation,
            format(${renderEventText("set-placed", { host: "%s" })}::text, host_name), jsonb_build_object('host', host_name)
          from moved
        )
        select id as "setId", host_id as "hostId", service_id as "serviceId" from moved`,
  );
}

export interface RejectionInput {
  setId: string;
  generation: number;
  text: string;
  reasons: readonly { reason: string; hosts: number }[];
  hostsTotal: number;
  /** The pause before the next attempt. */
  retryAfterMs: number;
  /** Every other host rejects the set: from now on it may use the avoided hosts too. */
  forgetAvoided: boolean;
}

/** The text for a format of Postgres, which inserts the explanation and the last failure. */
const afterFailureText = renderReasonText("no-host-fits", { explanation: "%s", lastFailure: "%s" });

/**
 * Stores why no host takes these sets (I5), and when they are retried. The reason of a set that
 * failed to start includes the failure, which its owner can correct.
 *
 * A set is news if the codes of its reasons have changed. A changed number of hosts is not news,
 * because it changes with each host that comes or goes. News is one event per service, with the
 * number of sets. It locks the sets: the caller has locked hosts before.
 */
export async function recordRejections(
  q: Queryable,
  rejections: readonly RejectionInput[],
  policyVersion: number,
): Promise<void> {
  if (rejections.length === 0) return;
  await q.execute(
    sql`with rejected as materialized (
          select * from json_to_recordset(${JSON.stringify(rejections)}::json) as r("setId" text, generation bigint,
            text text, reasons jsonb, "hostsTotal" int, "retryAfterMs" float8, "forgetAvoided" boolean)
        ), marked as (
          update sets s set attempts = least(s.attempts + 1, 1000), updated_at = now(),
            plan_after = now() + make_interval(secs => r."retryAfterMs" / 1000),
            avoid_host_ids = case when r."forgetAvoided" then '[]' else s.avoid_host_ids end,
            reason = jsonb_build_object('code', 'no-host-fits', 'phase', 'placement',
              'text', left(case when s.avoid_host_ids <> '[]' and s.reason->>'phase' is distinct from 'placement' and s.reason->>'text' is not null
                then format(${afterFailureText}::text, r.text, s.reason->>'text') else r.text end, 2000),
              'at', to_char(now() at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))
          from rejected r
          where s.id = r."setId" and s.state = 'pending' and s.generation = r.generation
          returning s.id, s.tenant_id, s.service_id, s.generation, r.text, r.reasons, r."hostsTotal"
        ), before as (
          select set_id, reasons from rejections where set_id in (select id from marked)
        ), stored as (
          insert into rejections (set_id, policy_version, hosts_total, reasons)
          select id, ${policyVersion}, "hostsTotal", reasons from marked
          on conflict (set_id) do update set policy_version = excluded.policy_version,
            hosts_total = excluded.hosts_total, reasons = excluded.reasons, at = now()
        )
        insert into events (kind, tenant_id, service_id, set_id, generation, text, data)
        select 'set-rejected', min(m.tenant_id), m.service_id, case when count(*) = 1 then min(m.id) end,
          case when count(*) = 1 then min(m.generation) end, (array_agg(m.text order by m.id))[1],
          jsonb_build_object('reasons', (array_agg(m.reasons order by m.id))[1], 'sets', count(*))
        from marked m left join before b on b.set_id = m.id
        where ${sortedCodesSql("b.reasons")} is distinct from ${sortedCodesSql("m.reasons")}
        group by m.service_id`,
  );
}

/** The codes of stored reasons, in order of their names. Null if nothing is stored. */
function sortedCodesSql(column: string): SQL {
  return sql.raw(
    `(select array_agg(r->>'reason' order by r->>'reason') from jsonb_array_elements(${column}) r)`,
  );
}
