import { sql } from "drizzle-orm";
import {
  bigserial,
  boolean,
  check,
  doublePrecision,
  index,
  integer,
  jsonb,
  pgTable,
  primaryKey,
  text,
  uniqueIndex,
} from "drizzle-orm/pg-core";
import {
  type HostImageState,
  hostImageStates,
  type ImagePurpose,
  imagePurposes,
  type RequestedChange,
  type RolloutKind,
  rolloutKinds,
  type RolloutPhase,
  rolloutPhases,
  type RolloutSelection,
  type RolloutState,
  rolloutStates,
  type RolloutStrategy,
  type UpdateDirection,
  updateDirections,
  type UpdateMethod,
  updateMethods,
  type UpdateOutcome,
  updateOutcomes,
} from "../../contracts/api/rollouts.ts";
import type { Reason } from "../../contracts/common/primitives.ts";
import { quoted, timestamptz } from "./columns.ts";
import { hosts } from "./hosts.ts";
import { services } from "./services.ts";
import { tenants } from "./tenancy.ts";

/**
 * Rollouts of services. Rows change only under the lock of their service, and all times are those
 * of the database (I16).
 */
export const rollouts = pgTable(
  "rollouts",
  {
    id: text("id").primaryKey(),
    tenantId: text("tenant_id")
      .notNull()
      .references(() => tenants.id),
    serviceId: text("service_id")
      .notNull()
      .references(() => services.id, { onDelete: "cascade" }),
    /** Counts the rollouts of the service. */
    number: integer("number").notNull(),
    kind: text("kind").$type<RolloutKind>().notNull(),
    state: text("state").$type<RolloutState>().notNull(),
    phase: text("phase").$type<RolloutPhase>(),
    /** Null while it is queued. */
    fromRevision: integer("from_revision"),
    /** Null while it is queued, and for a restart. */
    toRevision: integer("to_revision"),
    change: jsonb("change").$type<RequestedChange>().notNull(),
    /** Resolved at the request. Only a promotion changes it. */
    strategy: jsonb("strategy").$type<RolloutStrategy>().notNull(),
    /** The position of the current step, from 0. */
    step: integer("step").notNull().default(0),
    /** The sets of the current step. A promotion may give it others. */
    selection: jsonb("selection").$type<RolloutSelection>(),
    /** Updated sets beyond the selection return to the previous revision. */
    returnsExcess: boolean("returns_excess").notNull().default(false),
    stepBeganAt: timestamptz("step_began_at"),
    /** Since when the sets of the step are all updated and healthy. Null while they are not. */
    gateSince: timestamptz("gate_since"),
    /** The last disruptive action. Only a later count of ready sets proves success. */
    disruptedAt: timestamptz("disrupted_at"),
    progressAt: timestamptz("progress_at"),
    /** Why it has its state. */
    reason: jsonb("reason").$type<Reason>(),
    /** The name of the token that last changed its state. Null if Berth did. */
    changedBy: text("changed_by"),
    /** A text of the user. */
    message: text("message"),
    requestedBy: text("requested_by"),
    dueAt: timestamptz("due_at").notNull().defaultNow(),
    attempts: integer("attempts").notNull().default(0),
    createdAt: timestamptz("created_at").notNull().defaultNow(),
    startedAt: timestamptz("started_at"),
    endedAt: timestamptz("ended_at"),
  },
  (table) => [
    uniqueIndex("rollouts_number_unique").on(table.serviceId, table.number),
    // At most one is active (I21), and at most one waits for its end.
    uniqueIndex("rollouts_active_unique")
      .on(table.serviceId)
      .where(sql`state in ('running', 'paused', 'rolling-back')`),
    uniqueIndex("rollouts_queued_unique")
      .on(table.serviceId)
      .where(sql`state = 'queued'`),
    index("rollouts_due")
      .on(table.dueAt)
      .where(sql`state in ('running', 'rolling-back')`),
    index("rollouts_tenant").on(table.tenantId),
    index("rollouts_ended")
      .on(table.endedAt)
      .where(sql`ended_at is not null`),
    check("rollouts_kind_known", sql`${table.kind} in (${quoted(rolloutKinds)})`),
    check("rollouts_state_known", sql`${table.state} in (${quoted(rolloutStates)})`),
    check("rollouts_phase_known", sql`${table.phase} in (${quoted(rolloutPhases)})`),
    check(
      "rollouts_ended_has_time",
      sql`(${table.state} in ('queued', 'running', 'paused', 'rolling-back')) = (${table.endedAt} is null)`,
    ),
  ],
);

/**
 * The sets that a rollout changed or changes. A set that it returns has the record of its return.
 */
export const rolloutSets = pgTable(
  "rollout_sets",
  {
    rolloutId: text("rollout_id")
      .notNull()
      .references(() => rollouts.id, { onDelete: "cascade" }),
    setId: text("set_id").notNull(),
    step: integer("step").notNull(),
    method: text("method").$type<UpdateMethod>().notNull(),
    direction: text("direction").$type<UpdateDirection>().notNull(),
    /** With start-first: the set that becomes ready first. The record has the times of that set. */
    replacementSetId: text("replacement_set_id"),
    /** The restarts of each container at the begin. */
    restartsBefore: jsonb("restarts_before").$type<Record<string, number>>().notNull().default({}),
    /** Null while it waits for the budget or for capacity. No deadline runs then. */
    beganAt: timestamptz("began_at"),
    readyAt: timestamptz("ready_at"),
    endedAt: timestamptz("ended_at"),
    outcome: text("outcome").$type<UpdateOutcome>(),
    reason: jsonb("reason").$type<Reason>(),
    createdAt: timestamptz("created_at").notNull().defaultNow(),
  },
  (table) => [
    primaryKey({ name: "rollout_sets_pkey", columns: [table.rolloutId, table.setId] }),
    index("rollout_sets_open")
      .on(table.rolloutId, table.setId)
      .where(sql`ended_at is null`),
    // The open record of a set that an agent reports.
    index("rollout_sets_set")
      .on(table.setId)
      .where(sql`ended_at is null`),
    index("rollout_sets_replacement")
      .on(table.replacementSetId)
      .where(sql`ended_at is null and replacement_set_id is not null`),
    check("rollout_sets_method_known", sql`${table.method} in (${quoted(updateMethods)})`),
    check("rollout_sets_direction_known", sql`${table.direction} in (${quoted(updateDirections)})`),
    check("rollout_sets_outcome_known", sql`${table.outcome} in (${quoted(updateOutcomes)})`),
    check(
      "rollout_sets_outcome_at_end",
      sql`(${table.outcome} is null) = (${table.endedAt} is null)`,
    ),
  ],
);

/**
 * The images that hosts pull before a rollout stops a container, and those that they retain for its
 * rollback. Rows change only under the lock of their host, and end with their rollout.
 */
export const hostImages = pgTable(
  "host_images",
  {
    rolloutId: text("rollout_id")
      .notNull()
      .references(() => rollouts.id, { onDelete: "cascade" }),
    hostId: text("host_id")
      .notNull()
      .references(() => hosts.id, { onDelete: "cascade" }),
    reference: text("reference").notNull(),
    tenantId: text("tenant_id").notNull(),
    purpose: text("purpose").$type<ImagePurpose>().notNull(),
    state: text("state").$type<HostImageState>().notNull().default("requested"),
    /** The digest in the registry. Null for an image that is only local. */
    digest: text("digest"),
    imageId: text("image_id"),
    reason: jsonb("reason").$type<Reason>(),
    /** The host will not succeed later either. */
    isPermanent: boolean("is_permanent").notNull().default(false),
    requestedAt: timestamptz("requested_at").notNull().defaultNow(),
    reportedAt: timestamptz("reported_at"),
  },
  (table) => [
    primaryKey({
      name: "host_images_pkey",
      columns: [table.rolloutId, table.hostId, table.reference],
    }),
    index("host_images_host").on(table.hostId),
    check("host_images_purpose_known", sql`${table.purpose} in (${quoted(imagePurposes)})`),
    check("host_images_state_known", sql`${table.state} in (${quoted(hostImageStates)})`),
  ],
);

/** The newest value of each metric that a token sent for a rollout. */
export const rolloutMeasurements = pgTable(
  "rollout_measurements",
  {
    rolloutId: text("rollout_id")
      .notNull()
      .references(() => rollouts.id, { onDelete: "cascade" }),
    metric: text("metric").notNull(),
    value: doublePrecision("value").notNull(),
    /** Since when the value has been within the bounds of the current step. */
    withinSince: timestamptz("within_since"),
    at: timestamptz("at").notNull().defaultNow(),
  },
  (table) => [
    primaryKey({ name: "rollout_measurements_pkey", columns: [table.rolloutId, table.metric] }),
  ],
);

/**
 * Hints that a report concerns the rollout of a service. A report has locked its host, so it must
 * not write rows whose lock order begins with the service. It inserts here instead, at most one row
 * for each service, and the next round of the mover deletes the rows. No foreign key: its check
 * would lock the service.
 */
export const rolloutWakes = pgTable(
  "rollout_wakes",
  {
    id: bigserial("id", { mode: "number" }).primaryKey(),
    serviceId: text("service_id").notNull(),
  },
  (table) => [index("rollout_wakes_service").on(table.serviceId)],
);
