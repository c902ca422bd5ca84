import { sql } from "drizzle-orm";
import type { EventKind } from "../../../contracts/api/events.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";

export interface EventInput {
  kind: EventKind;
  text: string;
  tenantId?: string | null;
  serviceId?: string | null;
  setId?: string | null;
  hostId?: string | null;
  generation?: number | null;
  data?: Record<string, unknown>;
}

/** Appends events in one statement, however many. */
export async function insertEvents(q: Queryable, events: readonly EventInput[]): Promise<void> {
  if (events.length === 0) return;
  const rows = events.map((event) => ({
    kind: event.kind,
    text: event.text,
    tenant_id: event.tenantId ?? null,
    service_id: event.serviceId ?? null,
    set_id: event.setId ?? null,
    host_id: event.hostId ?? null,
    generation: event.generation ?? null,
    data: event.data ?? {},
  }));
  await q.execute(sql`
    insert into events (kind, text, tenant_id, service_id, set_id, host_id, generation, data)
    select kind, text, tenant_id, service_id, set_id, host_id, generation, data
    from json_to_recordset(${JSON.stringify(rows)}::json) as e(
      kind text, text text, tenant_id text, service_id text, set_id text, host_id text, generation bigint, data jsonb)`);
}
