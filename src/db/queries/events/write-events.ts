import { sql } from "drizzle-orm";
import { type EmittedEvent, renderEmittedEvent } from "../../../contracts/api/event-texts.ts";
import type { JobRequest } from "../../../contracts/jobs.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { outboxRows } from "../runtime/outbox.ts";
import { queryRows } from "../runtime/query.ts";

/** Appends any number of events in one statement, with their sentences. */
export async function insertEvents(q: Queryable, events: readonly EmittedEvent[]): Promise<void> {
  if (events.length === 0) return;
  await q.execute(insertion(events));
}

/**
 * Writes jobs to the outbox and appends events, in one statement. Returns the ids of the outbox
 * rows in the order of the jobs.
 */
export async function insertEffects(
  q: Queryable,
  { jobs, events }: { jobs: readonly JobRequest[]; events: readonly EmittedEvent[] },
): Promise<number[]> {
  if (jobs.length === 0) {
    await insertEvents(q, events);
    return [];
  }
  const appended = events.length === 0 ? sql`` : sql`, appended as (${insertion(events)})`;
  const rows = await queryRows<{ id: string | number }>(
    q,
    sql`with enqueued as (
          insert into outbox (name, job_id, payload)
          select name, job_id, payload
          from json_to_recordset(${JSON.stringify(outboxRows(jobs))}::json) as o(name text, job_id text, payload jsonb)
          returning id
        ) ${appended}
        select id from enqueued order by id`,
  );
  return rows.map((row) => Number(row.id));
}

function insertion(events: readonly EmittedEvent[]) {
  const rows = events.map((event) => ({
    kind: event.kind,
    text: renderEmittedEvent(event),
    tenant_id: event.tenantId ?? null,
    service_id: event.serviceId ?? null,
    set_id: event.setId ?? null,
    host_id: event.hostId ?? null,
    generation: event.generation ?? null,
    data: event.data,
  }));
  return sql`
    insert into events (kind, text, tenant_id, service_id, set_id, host_id, generation, data)
    select kind, text, tenant_id, service_id, set_id, host_id, generation, data
    from json_to_recordset(${JSON.stringify(rows)}::json) as e(
      kind text, text text, tenant_id text, service_id text, set_id text, host_id text, generation bigint, data jsonb)`;
}
