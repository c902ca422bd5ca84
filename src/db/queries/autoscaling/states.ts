import { and, eq, gt, sql } from "drizzle-orm";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { autoscaleStates } from "../../schema/autoscaling.ts";
import { replicaSetSql } from "../operations/operation-conditions.ts";
import { queryRows, secondsFromNow } from "../runtime/query.ts";

type StepsTaken = Record<string, { steps: number; sinceMs: number | null }>;

export interface AutoscaleStateRow {
  nowMs: number;
  scaledOutAtMs: number | null;
  scaledInAtMs: number | null;
  stepsTaken: StepsTaken;
}

/** Reads the past of a locked service, and the time of the database clock. */
export async function readAutoscaleState(
  q: Queryable,
  serviceId: string,
): Promise<AutoscaleStateRow> {
  const rows = await queryRows<
    Omit<AutoscaleStateRow, "stepsTaken"> & { stepsTaken: StepsTaken | null }
  >(
    q,
    sql`select round(extract(epoch from clock_timestamp()) * 1000)::float8 as "nowMs",
          round(extract(epoch from a.scaled_out_at) * 1000)::float8 as "scaledOutAtMs",
          round(extract(epoch from a.scaled_in_at) * 1000)::float8 as "scaledInAtMs", a.steps_taken as "stepsTaken"
        from (select 1) one left join autoscale_states a on a.service_id = ${serviceId}`,
  );
  const row = rows[0];
  if (!row) throw new Error("a left join from one row returns one row");
  return { ...row, stepsTaken: row.stepsTaken ?? {} };
}

/** Makes a locked service due now: its demands, its policy or its replicas have changed. */
export async function markAutoscaleDue(q: Queryable, serviceId: string): Promise<void> {
  await q.execute(sql`
    insert into autoscale_states (service_id, due_at) values (${serviceId}, now())
    on conflict (service_id) do update set due_at = now()`);
}

/**
 * Stores the outcome of a decision about a locked service, and when the service is due next. That
 * is the earliest of `recheckAfterMs`, the release of a resolved demand, and the time at which a
 * firing demand becomes stale. It is null if there is none of them. (Index demands_held.)
 */
export async function updateAutoscaleState(
  q: Queryable,
  serviceId: string,
  outcome: {
    scaled: "out" | "in" | undefined;
    stepsTaken: Readonly<StepsTaken>;
    recheckAfterMs: number | null;
  },
): Promise<void> {
  const { scaled } = outcome;
  await q.execute(sql`
    insert into autoscale_states as a (service_id, due_at, scaled_out_at, scaled_in_at, steps_taken)
    select ${serviceId}, least(now() + make_interval(secs => ${outcome.recheckAfterMs}::float8 / 1000), min(case state
          when 'resolved' then release_at
          else last_received_at + make_interval(secs => hold_max_seconds::float8) end)),
        case when ${scaled === "out"}::boolean then now() end, case when ${scaled === "in"}::boolean then now() end,
        ${JSON.stringify(outcome.stepsTaken)}::jsonb
      from demands where service_id = ${serviceId} and state <> 'released'
    on conflict (service_id) do update set due_at = excluded.due_at, attempts = 0,
      scaled_out_at = coalesce(excluded.scaled_out_at, a.scaled_out_at),
      scaled_in_at = coalesce(excluded.scaled_in_at, a.scaled_in_at), steps_taken = excluded.steps_taken`);
}

export interface DueService {
  serviceId: string;
  /** The number of claims since the last decision, including this one. */
  attempts: number;
}

/**
 * The longest due services, whose tenants each claim considers. If fewer services are due, it
 * considers no others.
 */
const OLDEST_MAX = 1_000;
/** Further tenants that one claim considers. Each costs some microseconds. */
const TENANTS_MAX = 5_000;

/**
 * Claims due services for `leaseSeconds`, fairly across tenants: the longest due service of each
 * tenant first, then the second of each. A claim whose holder crashes becomes due again. Waits for
 * no lock.
 *
 * If fewer than OLDEST_MAX services are due, the index autoscale_states_due gives their tenants.
 * Otherwise the statement also walks over the tenants in the index autoscale_states_due_by_tenant,
 * at most TENANTS_MAX of them. A tenant beyond them gets its turn when its service is one of the
 * longest due.
 *
 * If at least `limit` tenants have due services, the statement reads one service of each. Otherwise
 * it reads up to `limit` of each. The constant limit before that number is for the planner. So is
 * the late test of `due_at`. With it in the search, the planner may choose autoscale_states_due for
 * each tenant while it expects few due services.
 */
export async function claimDueServices(
  q: Queryable,
  limit: number,
  leaseSeconds: number,
): Promise<DueService[]> {
  return queryRows(
    q,
    sql`with recursive oldest as materialized (
          select tenant_id from autoscale_states where due_at <= now() order by due_at limit ${sql.raw(String(OLDEST_MAX))}
        ), queues as (
          (select tenant_id, due_at from autoscale_states
            where due_at is not null and (select count(*) from oldest) = ${sql.raw(String(OLDEST_MAX))}
            order by tenant_id, due_at limit 1)
          union all
          select next.tenant_id, next.due_at from queues cross join lateral (
            select tenant_id, due_at from autoscale_states where due_at is not null and tenant_id > queues.tenant_id
            order by tenant_id, due_at limit 1) next
        ), due_tenants as materialized (
          select tenant_id from oldest
          union
          select tenant_id from (select * from queues limit ${sql.raw(String(TENANTS_MAX))}) known where due_at <= now()
        ), share as (
          select case when count(*) < ${limit}::int then ${limit}::int else 1 end as services from due_tenants
        ), ranked as (
          select longest.* from due_tenants cross join lateral (
            select service_id, due_at, row_number() over (order by due_at) as position from (
              select service_id, due_at from autoscale_states
              where tenant_id = due_tenants.tenant_id and due_at is not null order by due_at limit ${sql.raw(String(limit))}) of_tenant
            where due_at <= now() order by due_at limit (select services from share)) longest
        ), claimed as (
          select service_id from autoscale_states
          where service_id in (select service_id from ranked order by position, due_at limit ${limit}) and due_at <= now()
          for update skip locked
        )
        update autoscale_states a set due_at = ${secondsFromNow(leaseSeconds)}, attempts = a.attempts + 1
        from claimed where a.service_id = claimed.service_id
        returning a.service_id as "serviceId", a.attempts`,
  );
}

/** Makes a service due again after a failed decision. */
export async function postponeAutoscale(
  q: Queryable,
  serviceId: string,
  afterSeconds: number,
): Promise<void> {
  await q
    .update(autoscaleStates)
    .set({ dueAt: secondsFromNow(afterSeconds) })
    .where(and(eq(autoscaleStates.serviceId, serviceId), gt(autoscaleStates.dueAt, sql`now()`)));
}

/**
 * Makes services due if nothing would release their resolved demands: a process of an older release
 * resolves a demand without a due time. Returns the number of services. (Index demands_due.)
 */
export async function markOverlookedServicesDue(q: Queryable): Promise<number> {
  const rows = await queryRows<{ id: string }>(
    q,
    sql`insert into autoscale_states as a (service_id, due_at)
        select distinct d.service_id, now() from demands d
        left join autoscale_states s on s.service_id = d.service_id
        where d.state = 'resolved' and d.release_at < now() and s.due_at is null
        on conflict (service_id) do update set due_at = now() where a.due_at is null
        returning service_id as id`,
  );
  return rows.length;
}

/** Deletes the state of a service that no longer exists or is being deleted: it is never due. */
export async function deleteAutoscaleState(q: Queryable, serviceId: string): Promise<void> {
  await q.delete(autoscaleStates).where(eq(autoscaleStates.serviceId, serviceId));
}

/** The number of replicas of a service that are ready. (Index sets_service.) */
export async function countReadySets(q: Queryable, serviceId: string): Promise<number> {
  const rows = await queryRows<{ count: number }>(
    q,
    sql`select count(*)::int as count from sets s
        where s.service_id = ${serviceId} and s.ready and s.desired = 'running' and ${replicaSetSql}`,
  );
  return rows[0]?.count ?? 0;
}
