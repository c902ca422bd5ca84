import { sql } from "drizzle-orm";
import {
  boolean,
  check,
  index,
  integer,
  jsonb,
  pgTable,
  text,
  uniqueIndex,
} from "drizzle-orm/pg-core";
import {
  demandStates,
  type HookRule,
  type ReplicaRequest,
} from "../../contracts/api/autoscaling.ts";
import { quoted } from "./tenancy.ts";
import { int8, timestamptz } from "./columns.ts";
import { services } from "./services.ts";

export const hooks = pgTable(
  "hooks",
  {
    id: text("id").primaryKey(),
    tenantId: text("tenant_id").notNull(),
    serviceId: text("service_id")
      .notNull()
      .references(() => services.id),
    name: text("name").notNull(),
    rules: jsonb("rules").$type<HookRule[]>().notNull(),
    /** The column keeps its former spelling until no release reads it. */
    stabilizationSeconds: integer("stabilisation_seconds").notNull(),
    /** The last event about alerts that the sender left out. */
    truncatedAt: timestamptz("truncated_at"),
    createdAt: timestamptz("created_at").notNull().defaultNow(),
    deletedAt: timestamptz("deleted_at"),
  },
  (table) => [
    uniqueIndex("hooks_name_unique")
      .on(table.serviceId, table.name)
      .where(sql`deleted_at is null`),
  ],
);

/**
 * Demands of alerts. A hook, a key and a start identify a row, so the same delivery twice, or from
 * two senders, is one row (I8). States: firing -> resolved (held until release_at) -> released.
 */
export const demands = pgTable(
  "demands",
  {
    id: text("id").primaryKey(),
    tenantId: text("tenant_id").notNull(),
    serviceId: text("service_id")
      .notNull()
      .references(() => services.id),
    hookId: text("hook_id")
      .notNull()
      .references(() => hooks.id),
    key: text("key").notNull(),
    labels: jsonb("labels").$type<Record<string, string>>().notNull(),
    /**
     * The rule and the alert's identity within it; empty in rows of a release that did not know
     * them.
     */
    rule: text("rule").notNull().default(""),
    identity: text("identity").notNull().default(""),
    /** The rule's want when the alert began. Null in such rows: they want `wantedReplicas`. */
    want: jsonb("want").$type<ReplicaRequest>(),
    holdMaxSeconds: integer("hold_max_seconds"),
    lastReceivedAt: timestamptz("last_received_at").notNull().defaultNow(),
    state: text("state").$type<(typeof demandStates)[number]>().notNull(),
    wantedReplicas: integer("wanted_replicas").notNull(),
    baseReplicas: integer("base_replicas").notNull(),
    startedAt: timestamptz("started_at").notNull(),
    resolvedAt: timestamptz("resolved_at"),
    releaseAt: timestamptz("release_at"),
    createdAt: timestamptz("created_at").notNull().defaultNow(),
  },
  (table) => [
    uniqueIndex("demands_alert_unique").on(table.hookId, table.key, table.startedAt),
    index("demands_held")
      .on(table.serviceId)
      .where(sql`state <> 'released'`),
    index("demands_due")
      .on(table.releaseAt)
      .where(sql`state = 'resolved'`),
    index("demands_service").on(table.serviceId, table.id),
    index("demands_released")
      .on(table.releaseAt)
      .where(sql`state = 'released'`),
    index("demands_released_of_hook")
      .on(table.hookId, table.releaseAt)
      .where(sql`state = 'released'`),
    check("demands_state_known", sql`${table.state} in (${quoted(demandStates)})`),
  ],
);

/**
 * When each service with demands is decided next, and the past that the decision needs. A
 * transaction that changes demands sets `due_at` to now; job workers claim due rows.
 */
export const autoscaleStates = pgTable(
  "autoscale_states",
  {
    serviceId: text("service_id")
      .primaryKey()
      .references(() => services.id, { onDelete: "cascade" }),
    /** Null: only a change makes a decision necessary. */
    dueAt: timestamptz("due_at"),
    /** Decisions in a row that failed. */
    attempts: integer("attempts").notNull().default(0),
    scaledOutAt: timestamptz("scaled_out_at"),
    scaledInAt: timestamptz("scaled_in_at"),
    /** Steps of rules that take more while they fire. */
    stepsTaken: jsonb("steps_taken")
      .$type<Record<string, { steps: number; sinceMs: number | null }>>()
      .notNull()
      .default({}),
  },
  (table) => [
    index("autoscale_states_due")
      .on(table.dueAt)
      .where(sql`due_at is not null`),
  ],
);

/** One evaluation of a service's size each, acted on or not. */
export const decisions = pgTable(
  "decisions",
  {
    id: text("id").primaryKey(),
    tenantId: text("tenant_id").notNull(),
    serviceId: text("service_id").notNull(),
    at: timestamptz("at").notNull().defaultNow(),
    fromReplicas: integer("from_replicas").notNull(),
    toReplicas: integer("to_replicas").notNull(),
    acted: boolean("acted").notNull(),
    because: jsonb("because").$type<string[]>().notNull(),
    generation: int8("generation").notNull(),
  },
  (table) => [
    index("decisions_service").on(table.serviceId, table.id),
    index("decisions_tenant").on(table.tenantId, table.id),
  ],
);
