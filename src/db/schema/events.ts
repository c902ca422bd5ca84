import { sql } from "drizzle-orm";
import { bigserial, index, jsonb, pgTable, text } from "drizzle-orm/pg-core";
import type { EventKind } from "../../contracts/api/events.ts";
import { changedXid, int8, timestamptz } from "./columns.ts";

/** What happened, for people and for streams. Append-only; swept by age. */
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
    /** Streams go by (xid, id): ids alone are given out in another order than transactions commit. */
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
  ],
);

/** Jobs to ring, written with the intent they are for; deleted once BullMQ has them. The relay rings what is left over. */
export const outbox = pgTable(
  "outbox",
  {
    id: bigserial("id", { mode: "number" }).primaryKey(),
    name: text("name").notNull(),
    jobId: text("job_id").notNull(),
    payload: jsonb("payload").$type<Record<string, unknown>>().notNull(),
    createdAt: timestamptz("created_at").notNull().defaultNow(),
  },
  (table) => [index("outbox_created_at").on(table.createdAt)],
);
