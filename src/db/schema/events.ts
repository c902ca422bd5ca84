import { type SQL, sql } from "drizzle-orm";
import { bigserial, index, jsonb, pgTable, text } from "drizzle-orm/pg-core";
import { type EventKind, frequentEventKinds } from "../../contracts/api/events.ts";
import { changedXid, int8, quoted, timestamptz } from "./columns.ts";

/** The condition of the index events_rare_kind. */
export function rareKindSql(column: SQL): SQL {
  return sql`${column} not in (${quoted(frequentEventKinds)})`;
}

/** The log of all changes, append-only. Retention deletes old rows. */
export const events = pgTable(
  "events",
  {
    id: bigserial("id", { mode: "number" }).primaryKey(),
    at: timestamptz("at").notNull().defaultNow(),
    kind: text("kind").$type<EventKind>().notNull(),
    tenantId: text("tenant_id"),
    serviceId: text("service_id"),
    setId: text("set_id"),
    hostId: text("host_id"),
    generation: int8("generation"),
    text: text("text").notNull(),
    data: jsonb("data").$type<Record<string, unknown>>().notNull().default({}),
    /**
     * Streams order events by (xid, id), because transactions do not commit in the order of ids.
     */
    xid: changedXid("xid")
      .notNull()
      .default(sql`pg_current_xact_id()`),
  },
  (table) => [
    index("events_tenant").on(table.tenantId, table.id),
    index("events_service").on(table.serviceId, table.id),
    index("events_set").on(table.setId, table.id),
    index("events_host").on(table.hostId, table.id),
    index("events_xid").on(table.xid, table.id),
    // Finds a rare kind among millions of events of sets. The index excludes those, so that their
    // inserts cost nothing more.
    index("events_rare_kind")
      .on(table.kind, table.id)
      .where(rareKindSql(sql`kind`)),
  ],
);
