import { sql } from "drizzle-orm";
import { bigserial, index, integer, jsonb, pgTable, text, uniqueIndex } from "drizzle-orm/pg-core";
import { int8, timestamptz } from "./columns.ts";

/**
 * Jobs that are not complete. The transaction that stores an intent inserts its jobs. A job worker
 * deletes the row after the job. BullMQ only triggers jobs: this table states which ones are due.
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
    /** The error of the relay's last attempt to run the job. */
    lastError: text("last_error"),
  },
  (table) => [
    // In the words of claimOutbox, and of OUTBOX_ATTEMPTS_MAX.
    index("outbox_claimable")
      .on(table.name, table.dueAt)
      .where(sql`attempts < 20`),
  ],
);

/**
 * Leases among all job workers, by name. A lease expires at `next_at`. Older releases have one
 * lease per sweep.
 */
export const sweepTurns = pgTable("sweep_turns", {
  name: text("name").primaryKey(),
  nextAt: timestamptz("next_at").notNull(),
  /** Identifies the claim. Null after a release. Older releases leave it unchanged. */
  holder: text("holder"),
});

/** Responses to requests with an Idempotency-Key. Retention deletes them after a day. */
export const idempotencyKeys = pgTable(
  "idempotency_keys",
  {
    /** The id of the caller's token, so that keys of two callers never collide. */
    scope: text("scope").notNull(),
    key: text("key").notNull(),
    requestHash: text("request_hash").notNull(),
    /** Null while the first request is in progress. */
    status: int8("status"),
    body: text("body"),
    createdAt: timestamptz("created_at").notNull().defaultNow(),
  },
  (table) => [
    uniqueIndex("idempotency_keys_unique").on(table.scope, table.key),
    index("idempotency_keys_created_at").on(table.createdAt),
  ],
);
