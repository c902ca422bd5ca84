import { type SQL, sql } from "drizzle-orm";
import type { JobName, JobRequest } from "../../../contracts/jobs.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { outbox } from "../../schema/runtime.ts";
import { anyOf, asyncCommit, queryRows, runWrite, secondsAgo, secondsFromNow } from "./query.ts";

/** After this number of claims, the relay parks a row for an operator: see berth_outbox_parked. */
export const OUTBOX_ATTEMPTS_MAX = 20;
/** A parameter would not match the condition of the index outbox_claimable. */
const attemptsMaxSql = sql.raw(String(OUTBOX_ATTEMPTS_MAX));
/** Due rows of each job that one claim ranks by tenant. */
const ROWS_RANKED_MAX = 10_000;
const RETRY_SECONDS_MIN = 10;
const RETRY_SECONDS_MAX = 60;

/** The jobs as rows of the outbox. */
export function outboxRows(jobs: readonly JobRequest[]) {
  return jobs.map((job) => ({ name: job.name, job_id: job.jobId, payload: job.payload }));
}

export interface OutboxRow extends JobRequest {
  id: number;
  /** The number of claims, including this one. */
  attempts: number;
}

/**
 * Claims due rows, fairly across tenants: the oldest row of each tenant first, then the second of
 * each. A claim sets a due time in 10 to 60 s, which doubles with each claim, so that a crashed
 * relay loses nothing.
 * (Index outbox_claimable.)
 * @param names the jobs of this release; jobs of a newer release wait for its job workers
 */
export async function claimOutbox(
  q: Queryable,
  names: readonly JobName[],
  limit: number,
): Promise<OutboxRow[]> {
  const rows = await runWrite<{
    id: string | number;
    name: JobName;
    job_id: string;
    payload: Record<string, unknown>;
    attempts: number;
  }>(
    q,
    sql`with due as (
          select o.* from json_array_elements_text(${JSON.stringify(names)}::json) n(name), lateral (
            select id, payload, due_at from outbox
            where name = n.name and attempts < ${attemptsMaxSql} and due_at <= now()
            order by due_at limit ${ROWS_RANKED_MAX}) o
        ), ranked as (
          select d.id, row_number() over (partition by s.tenant_id order by d.due_at, d.id) as position
          from due d left join services s on s.id = d.payload->>'serviceId'
        ), claimed as (
          select id from outbox where id in (select id from ranked order by position, id limit ${limit}) and due_at <= now()
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

/** Releases claims without an attempt: the rows are due immediately, with one attempt less. */
export async function releaseOutbox(q: Queryable, ids: readonly number[]): Promise<void> {
  if (ids.length === 0) return;
  await runWrite(
    q,
    sql`update outbox set attempts = greatest(attempts - 1, 0), due_at = now() where ${hasId(ids)}`,
  );
}

/** Deletes completed rows. The commit is asynchronous: the work of a restored row runs again. */
export async function deleteOutbox(q: Queryable, ids: readonly number[]): Promise<void> {
  if (ids.length === 0) return;
  await runWrite(q, sql`delete from outbox where ${hasId(ids)} and ${asyncCommit}`);
}

/** Stores the error of the rows' work. The rows are due again at their due time. */
export async function updateOutboxErrors(
  q: Queryable,
  ids: readonly number[],
  error: string,
): Promise<void> {
  await q.update(outbox).set({ lastError: error }).where(hasId(ids));
}

/**
 * Deletes at most `limit` rows that have been due for `ageSeconds`: parked rows, and rows of jobs
 * that are not in `names`. A rollback may have removed those jobs.
 */
export async function deleteParkedOutbox(
  q: Queryable,
  names: readonly JobName[],
  ageSeconds: number,
  limit: number,
): Promise<number> {
  const rows = await queryRows<{ id: string }>(
    q,
    sql`delete from outbox where id in (
          select id from outbox where (attempts >= ${attemptsMaxSql} or not name = ${anyOf(names)})
            and due_at < ${secondsAgo(ageSeconds)} order by due_at limit ${limit})
        returning id`,
  );
  return rows.length;
}

export interface OutboxState {
  /** The age of the oldest due row, or 0. */
  oldestDueSeconds: number;
  /** The number of parked rows. */
  parked: number;
}

export async function readOutboxState(q: Queryable): Promise<OutboxState> {
  const rows = await queryRows<OutboxState>(
    q,
    sql`select coalesce(extract(epoch from now() - min(created_at) filter (where due_at <= now())), 0)::float8 as "oldestDueSeconds",
          (count(*) filter (where attempts >= ${OUTBOX_ATTEMPTS_MAX}))::int as parked
        from outbox where due_at <= ${secondsFromNow(RETRY_SECONDS_MAX)}`,
  );
  return rows[0] ?? { oldestDueSeconds: 0, parked: 0 };
}

/**
 * An array lets Postgres use the primary key; with a subselect of JSON it reads the whole table.
 */
function hasId(ids: readonly number[]): SQL {
  return sql`id = any(${`{${ids.join(",")}}`}::bigint[])`;
}
