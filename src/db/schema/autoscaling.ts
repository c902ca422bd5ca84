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
import { demandStates, type HookRule } from "../../contracts/api/autoscaling.ts";
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
    stabilisationSeconds: integer("stabilisation_seconds").notNull(),
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
 * What alerts ask for. An alert is its hook, key and start: the same delivery twice, or from two senders, is one row (I8).
 * firing -> resolved (holds until release_at) -> released.
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
    check("demands_state_known", sql`${table.state} in (${quoted(demandStates)})`),
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
