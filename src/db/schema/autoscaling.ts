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
import { int8, quoted, timestamptz } from "./columns.ts";
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
    /** The column keeps its previous spelling until no release reads it. */
    stabilizationSeconds: integer("stabilisation_seconds").notNull(),
    /** The time of the last event about alerts that the sender omitted. */
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
 * Demands of alerts. A hook, a key and a start identify a row. So a delivery that arrives twice, or
 * from two senders, has one row (I8). States: firing -> resolved (held until release_at) ->
 * released.
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
     * The rule, and the identity of the alert within it. Empty in rows of a release without them.
     */
    rule: text("rule").notNull().default(""),
    identity: text("identity").notNull().default(""),
    /** The request of the rule when the alert began. Null in such rows: see `wantedReplicas`. */
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
 * The time of the next evaluation of each service with demands, and the past that it needs. A
 * transaction that changes demands sets `due_at` to now. Job workers claim due rows.
 */
export const autoscaleStates = pgTable(
  "autoscale_states",
  {
    serviceId: text("service_id")
      .primaryKey()
      .references(() => services.id, { onDelete: "cascade" }),
    /** The tenant of the service. A trigger sets it. */
    tenantId: text("tenant_id").notNull(),
    /** Null if only a change makes an evaluation necessary. */
    dueAt: timestamptz("due_at"),
    /** The number of successive failed evaluations. */
    attempts: integer("attempts").notNull().default(0),
    scaledOutAt: timestamptz("scaled_out_at"),
    scaledInAt: timestamptz("scaled_in_at"),
    /** The steps taken by rules with `everySeconds`. */
    stepsTaken: jsonb("steps_taken")
      .$type<Record<string, { steps: number; sinceMs: number | null }>>()
      .notNull()
      .default({}),
  },
  (table) => [
    index("autoscale_states_due")
      .on(table.dueAt)
      .where(sql`due_at is not null`),
    index("autoscale_states_due_by_tenant")
      .on(table.tenantId, table.dueAt)
      .where(sql`due_at is not null`),
  ],
);

/** Evaluations of services. `acted` is true if the evaluation changed the number of sets. */
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
