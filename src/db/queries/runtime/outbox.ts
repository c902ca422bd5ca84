import { sql } from "drizzle-orm";
import type { JobName, JobRequest } from "../../../contracts/jobs.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { mayBeLost, rowsByKey, rowsOf } from "./query.ts";

/** In the words of the table's columns. */
export function outboxRows(jobs: readonly JobRequest[]) {
  return jobs.map((job) => ({ name: job.name, job_id: job.jobId, payload: job.payload }));
}

export interface OutboxRow extends JobRequest {
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
