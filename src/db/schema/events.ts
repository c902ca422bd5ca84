import { type SQL, sql } from "drizzle-orm";
import { bigserial, index, integer, jsonb, pgTable, text } from "drizzle-orm/pg-core";
import { type EventKind, frequentEventKinds } from "../../contracts/api/events.ts";
import { quoted } from "./tenancy.ts";
import { changedXid, int8, timestamptz } from "./columns.ts";

/** The condition of the index events_rare_kind. */
export function isRareKind(column: SQL): SQL {
  return sql`${column} not in (${quoted(frequentEventKinds)})`;
}

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
    // Finds a host-lost among millions of events of sets, which this index leaves out, so that they cost nothing more.
    index("events_rare_kind")
      .on(table.kind, table.id)
      .where(isRareKind(sql`kind`)),
  ],
);

/**
 * Jobs whose work is not done yet, written with the intent that they belong to. A row stays until a job worker has done
 * the work: BullMQ is the trigger, this table is the due work.
 */
export const outbox = pgTable(
  "outbox",
  {
    id: bigserial("id", { mode: "number" }).primaryKey(),
    name: text("name").notNull(),
    jobId: text("job_id").notNull(),
    payload: jsonb("payload").$type<Record<string, unknown>>().notNull(),
    createdAt: timestamptz("created_at").notNull().defaultNow(),
    /** The relay takes the row from then on. The process that wrote it enqueues it before. */
    dueAt: timestamptz("due_at")
      .notNull()
      .default(sql`now() + interval '1 second'`),
    /** How often the relay took it. */
    attempts: integer("attempts").notNull().default(0),
    /** Of the relay's last attempt to do the work itself. */
    lastError: text("last_error"),
  },
  (table) => [index("outbox_due").on(table.dueAt)],
);

/**
 * When each sweep is due again, for the whole fleet: the job worker that moves `next_at` forward runs the sweep. So any
 * number of job workers scan as often as one.
 */
export const sweepTurns = pgTable("sweep_turns", {
  name: text("name").primaryKey(),
  nextAt: timestamptz("next_at").notNull(),
});
