import { type SQL, sql } from "drizzle-orm";
import type { JobName, JobRequest } from "../../../contracts/jobs.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { anyOf, mayBeLost, rowsOf, rowsOfWrite } from "./query.ts";

/** A row that the relay took so often is left to an operator: see the metric berth_outbox_parked. */
export const OUTBOX_ATTEMPTS_MAX = 20;
/** Due rows that one claim ranks by tenant. */
const ROWS_RANKED_MAX = 10_000;
const RETRY_SECONDS_MIN = 10;
const RETRY_SECONDS_MAX = 60;

/** Jobs in the shape of the outbox's columns. */
export function outboxRows(jobs: readonly JobRequest[]) {
  return jobs.map((job) => ({ name: job.name, job_id: job.jobId, payload: job.payload }));
}

export interface OutboxRow extends JobRequest {
  id: number;
  /** How often the relay took it, this time included. */
  attempts: number;
}

/**
 * Claims due rows, fairly across tenants: the oldest row of each tenant first, then the second of each. A claim is a due
 * time in the future, which doubles from 10 to 60 s, so that a relay that dies loses nothing. (Index outbox_due.)
 * @param names jobs that this process can run: rows of a newer release's jobs wait for its job workers
 */
export async function claimOutbox(
  q: Queryable,
  names: readonly JobName[],
  limit: number,
): Promise<OutboxRow[]> {
  const rows = await rowsOfWrite<{
    id: string | number;
    name: JobName;
    job_id: string;
    payload: Record<string, unknown>;
    attempts: number;
  }>(
    q,
    sql`with due as (
          select id, name, payload, due_at from outbox
          where due_at <= now() and attempts < ${OUTBOX_ATTEMPTS_MAX} and name = ${anyOf(names)}
          order by due_at limit ${ROWS_RANKED_MAX}
        ), ranked as (
          select d.id, row_number() over (partition by s.tenant_id order by d.due_at, d.id) as position
          from due d left join services s on s.id = d.payload->>'serviceId'
        ), claimed as (
          select id from outbox where id in (select id from ranked order by position, id limit ${limit})
          for update skip locked
        )
        update outbox o set attempts = o.attempts + 1,
          due_at = now() + make_interval(secs => least(${RETRY_SECONDS_MAX}, ${RETRY_SECONDS_MIN} * 2 ^ o.attempts))
        from claimed where o.id = claimed.id
        returning o.id, o.name, o.job_id, o.payload, o.attempts`,
  );
  return rows.map((row) => ({
    id: Number(row.id),
    name: row.name,
    jobId: row.job_id,
    payload: row.payload,
    attempts: row.attempts,
  }));
}

/** Gives back claims whose work was not tried: the rows are due at once, with one attempt less. */
export async function releaseOutbox(q: Queryable, ids: readonly number[]): Promise<void> {
  if (ids.length === 0) return;
  await rowsOfWrite(
    q,
    sql`update outbox set attempts = greatest(attempts - 1, 0), due_at = now() where ${hasId(ids)}`,
  );
}

/** Deletes rows whose work is done. The commit is asynchronous: a row that a crash restores is done once more. */
export async function deleteOutbox(q: Queryable, ids: readonly number[]): Promise<void> {
  if (ids.length === 0) return;
  await rowsOfWrite(q, sql`delete from outbox where ${hasId(ids)} and ${mayBeLost}`);
}

/** Stores why the relay could not do the work of these rows; they are due again at their due time. */
export async function updateOutboxErrors(
  q: Queryable,
  ids: readonly number[],
  error: string,
): Promise<void> {
  await q.execute(sql`update outbox set last_error = ${error} where ${hasId(ids)}`);
}

/** Deletes rows that were given up and are older than `ageSeconds`, at most `limit`. */
export async function deleteParkedOutbox(
  q: Queryable,
  ageSeconds: number,
  limit: number,
): Promise<number> {
  const rows = await rowsOf<{ id: string }>(
    q,
    sql`delete from outbox where id in (
          select id from outbox where attempts >= ${OUTBOX_ATTEMPTS_MAX}
            and due_at < now() - make_interval(secs => ${ageSeconds}::float8) order by due_at limit ${limit})
        returning id`,
  );
  return rows.length;
}

export interface OutboxState {
  /** Age of the oldest row that is due; 0 when none is. */
  oldestDueSeconds: number;
  /** Rows that the relay gave up. */
  parked: number;
}

export async function readOutboxState(q: Queryable): Promise<OutboxState> {
  const rows = await rowsOf<OutboxState>(
    q,
    sql`select coalesce(extract(epoch from now() - min(created_at) filter (where due_at <= now())), 0)::float8 as "oldestDueSeconds",
          (count(*) filter (where attempts >= ${OUTBOX_ATTEMPTS_MAX}))::int as parked
        from outbox where due_at <= now() + make_interval(secs => ${RETRY_SECONDS_MAX})`,
  );
  return rows[0] ?? { oldestDueSeconds: 0, parked: 0 };
}

/** An array, so that the primary key serves: with a subselect of JSON Postgres reads the whole table. */
function hasId(ids: readonly number[]): SQL {
  return sql`id = any(${`{${ids.join(",")}}`}::bigint[])`;
}
