import { sql } from "drizzle-orm";
import type { JobName, JobRing } from "../../../contracts/jobs.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { mayBeLost, rowsByKey, rowsOf } from "./query.ts";

/** Writes jobs to ring into the same transaction as the intent they are for. Gives their ids, in order. */
export async function insertOutbox(q: Queryable, jobs: readonly JobRing[]): Promise<number[]> {
  if (jobs.length === 0) return [];
  const rows = outboxRows(jobs);
  const inserted = await rowsOf<{ id: string | number }>(
    q,
    sql`insert into outbox (name, job_id, payload)
        select name, job_id, payload
        from json_to_recordset(${JSON.stringify(rows)}::json) as o(name text, job_id text, payload jsonb)
        returning id`,
  );
  return inserted.map((row) => Number(row.id));
}

/** In the words of the table's columns. */
export function outboxRows(jobs: readonly JobRing[]) {
  return jobs.map((job) => ({ name: job.name, job_id: job.jobId, payload: job.payload }));
}

export interface OutboxRow extends JobRing {
  id: number;
}

/** Left-over jobs older than `ageMs`, oldest first. Not locked: ringing one twice is one job. */
export async function listOutbox(q: Queryable, ageMs: number, limit: number): Promise<OutboxRow[]> {
  const rows = await rowsOf<{
    id: string | number;
    name: JobName;
    job_id: string;
    payload: Record<string, unknown>;
  }>(
    q,
    sql`select id, name, job_id, payload from outbox
        where created_at < now() - make_interval(secs => ${ageMs / 1000}::float8) order by id limit ${limit}`,
  );
  return rows.map((row) => ({
    id: Number(row.id),
    name: row.name,
    jobId: row.job_id,
    payload: row.payload,
  }));
}

/** By itself. A row that a crash brings back is rung once more. */
export async function deleteOutbox(q: Queryable, ids: readonly number[]): Promise<void> {
  if (ids.length === 0) return;
  // An array, so that the primary key is used: a subselect of JSON makes the planner read the whole table.
  const rows = sql`id = any(${`{${ids.join(",")}}`}::bigint[])`;
  await rowsByKey(q, sql`delete from outbox where ${rows} and ${mayBeLost}`);
}
