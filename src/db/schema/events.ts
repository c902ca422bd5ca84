import { type SQL, sql } from "drizzle-orm";
import { bigserial, index, integer, jsonb, pgTable, text } from "drizzle-orm/pg-core";
import { type EventKind, frequentEventKinds } from "../../contracts/api/events.ts";
import { quoted } from "./tenancy.ts";
import { changedXid, int8, timestamptz } from "./columns.ts";

/** The condition of the index events_rare_kind. */
export function isRareKind(column: SQL): SQL {
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
    /** Streams order events by (xid, id), as transactions do not commit in the order of ids. */
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
      .where(isRareKind(sql`kind`)),
  ],
);

/**
 * Jobs with pending work. The transaction that stores an intent inserts its jobs. A row stays until
 * a job worker has done its work: BullMQ is the trigger, and this table is the due work.
 */
export const outbox = pgTable(
  "outbox",
  {
    id: bigserial("id", { mode: "number" }).primaryKey(),
    name: text("name").notNull(),
    jobId: text("job_id").notNull(),
    payload: jsonb("payload").$type<Record<string, unknown>>().notNull(),
    createdAt: timestamptz("created_at").notNull().defaultNow(),
    /** The relay may claim the row from this time. The writing process enqueues the job earlier. */
    dueAt: timestamptz("due_at")
      .notNull()
      .default(sql`now() + interval '1 second'`),
    /** How often the relay claimed the row. */
    attempts: integer("attempts").notNull().default(0),
    /** The error of the relay's last attempt to do the work. */
    lastError: text("last_error"),
  },
  (table) => [index("outbox_due").on(table.dueAt)],
);

/**
 * Leases among all job workers. The job worker that advances `next_at` holds the lease until that
 * time. Earlier builds have a lease per sweep.
 */
export const sweepTurns = pgTable("sweep_turns", {
  name: text("name").primaryKey(),
  nextAt: timestamptz("next_at").notNull(),
});
