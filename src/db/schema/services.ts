import { sql } from "drizzle-orm";
import {
  boolean,
  check,
  index,
  integer,
  jsonb,
  pgTable,
  primaryKey,
  text,
  uniqueIndex,
} from "drizzle-orm/pg-core";
import type { Reason } from "../../contracts/common/primitives.ts";
import {
  type AutoscaleSpec,
  type DisruptionBudget,
  hostLostPolicies,
  type PlacementSpec,
} from "../../contracts/api/services.ts";
import { type ContainerStatus, setDesires, setStates } from "../../contracts/api/sets.ts";
import type { EndedOperation } from "../../contracts/api/operations.ts";
import type { SetTemplate } from "../../contracts/api/set-template.ts";
import { quoted, tenants } from "./tenancy.ts";
import { changedXid, int8, timestamptz } from "./columns.ts";
import { hosts } from "./hosts.ts";

export const services = pgTable(
  "services",
  {
    id: text("id").primaryKey(),
    tenantId: text("tenant_id")
      .notNull()
      .references(() => tenants.id),
    name: text("name").notNull(),
    generation: int8("generation").notNull().default(1),
    /** The current revision: new sets have it. */
    revision: integer("revision").notNull().default(1),
    /** The newest revision that users want, while it is not the current one. */
    targetRevision: integer("target_revision"),
    replicas: integer("replicas").notNull(),
    desiredReplicas: integer("desired_replicas").notNull(),
    priority: integer("priority").notNull(),
    /** The size of new sets; a quota is a sum over services. */
    setCpuMillis: int8("set_cpu_millis").notNull().default(0),
    setMemoryBytes: int8("set_memory_bytes").notNull().default(0),
    setVolumeBytes: int8("set_volume_bytes").notNull().default(0),
    setRootfsBytes: int8("set_rootfs_bytes").notNull().default(0),
    placement: jsonb("placement").$type<PlacementSpec>().notNull(),
    onHostLost: text("on_host_lost").$type<(typeof hostLostPolicies)[number]>().notNull(),
    autoscale: jsonb("autoscale").$type<AutoscaleSpec>(),
    /** Null: the defaults of the contract. */
    disruption: jsonb("disruption").$type<DisruptionBudget>(),
    deleting: boolean("deleting").notNull().default(false),
    createdAt: timestamptz("created_at").notNull().defaultNow(),
    updatedAt: timestamptz("updated_at").notNull().defaultNow(),
    deletedAt: timestamptz("deleted_at"),
  },
  (table) => [
    uniqueIndex("services_name_unique")
      .on(table.tenantId, table.name)
      .where(sql`deleted_at is null`),
    // The services that keep others off their hosts: see isRepelling.
    index("services_repelling")
      .on(table.tenantId)
      .where(sql`deleted_at is null and placement->'antiAffinity' <> '[]'::jsonb`),
    index("services_deleted")
      .on(table.deletedAt)
      .where(sql`deleted_at is not null`),
    index("services_deleting")
      .on(table.id)
      .where(sql`deleting and deleted_at is null`),
    check("services_on_host_lost_known", sql`${table.onHostLost} in (${quoted(hostLostPolicies)})`),
    check(
      "services_replicas_not_negative",
      sql`least(${table.replicas}, ${table.desiredReplicas}) >= 0`,
    ),
  ],
);

/** Immutable versions of a service's set template. */
export const revisions = pgTable(
  "revisions",
  {
    serviceId: text("service_id")
      .notNull()
      .references(() => services.id),
    number: integer("number").notNull(),
    template: jsonb("template").$type<SetTemplate>().notNull(),
    createdAt: timestamptz("created_at").notNull().defaultNow(),
  },
  (table) => [
    primaryKey({ name: "revisions_pkey", columns: [table.serviceId, table.number] }),
    index("revisions_created_at").on(table.createdAt),
  ],
);

/**
 * Sets. A row with a host is booked on it. The transaction that stores the agent's report of an
 * absent set clears host_id, which ends the booking.
 */
export const sets = pgTable(
  "sets",
  {
    id: text("id").primaryKey(),
    tenantId: text("tenant_id").notNull(),
    serviceId: text("service_id")
      .notNull()
      .references(() => services.id),
    revision: integer("revision").notNull(),
    generation: int8("generation").notNull().default(1),
    desired: text("desired").$type<(typeof setDesires)[number]>().notNull().default("running"),
    state: text("state").$type<(typeof setStates)[number]>().notNull().default("pending"),
    ready: boolean("ready").notNull().default(false),
    reason: jsonb("reason").$type<Reason>(),
    priority: integer("priority").notNull(),
    /**
     * The booked amounts. Until the set is `sized`, the larger of its previous and its new size.
     */
    cpuMillis: int8("cpu_millis").notNull(),
    memoryBytes: int8("memory_bytes").notNull(),
    volumeBytes: int8("volume_bytes").notNull(),
    rootfsBytes: int8("rootfs_bytes").notNull(),
    hostId: text("host_id").references(() => hosts.id),
    /** The host generation of the last change that concerns the host. */
    hostGeneration: int8("host_generation").notNull().default(0),
    /** The agent replaces containers of an older set generation. */
    restartGeneration: int8("restart_generation").notNull().default(0),
    /**
     * Superseded by `operations`. This release writes it too, so that processes of the previous
     * release, which run during an upgrade, finish such moves. The next release drops it.
     */
    leaving: boolean("leaving").notNull().default(false),
    /** At most 8 hosts that the planner avoids, the newest last. */
    avoidHostIds: jsonb("avoid_host_ids").$type<string[]>().notNull().default([]),
    /** The number of successive failed placements and starts, which determines planAfter. */
    attempts: integer("attempts").notNull().default(0),
    /** Failed starts since the set last ran. Free capacity does not shorten their backoff. */
    failedStarts: integer("failed_starts").notNull().default(0),
    /** The end of the backoff after a rejection or a failed start. */
    planAfter: timestamptz("plan_after").notNull().defaultNow(),
    /** A trashed volume of its host that the set gets instead of a new one. */
    restoreVolumeId: text("restore_volume_id"),
    /** False from a resize until the agent reports that the kernel enforces the new amounts. */
    sized: boolean("sized").notNull().default(true),
    /** The last operation, if it did not reach its goal. */
    lastOperation: jsonb("last_operation").$type<EndedOperation>(),
    /** Superseded by `operations`; the next release drops these four. */
    formerRevision: integer("former_revision"),
    blockedReason: jsonb("held_back").$type<Reason>(),
    replaces: text("replaces"),
    moveRevision: integer("move_revision"),
    /** The time at which the set became ready. Null while it is not ready. */
    readySince: timestamptz("ready_since"),
    /** The set has been ready at least once; see mayDisrupt. */
    wasReady: boolean("was_ready").notNull().default(false),
    address: text("address"),
    containers: jsonb("containers").$type<ContainerStatus[]>().notNull().default([]),
    createdAt: timestamptz("created_at").notNull().defaultNow(),
    placedAt: timestamptz("placed_at"),
    /** The time of the first report of `starting` on its host. */
    startingAt: timestamptz("starting_at"),
    runningAt: timestamptz("running_at"),
    updatedAt: timestamptz("updated_at").notNull().defaultNow(),
    deletedAt: timestamptz("deleted_at"),
    /** Null until the first booking, as only sets with a host concern the planner. */
    changedXid: changedXid("changed_xid"),
  },
  (table) => [
    // A pending set has no host. The condition does not name `state`, which changes most: an update
    // of a column in an index condition rewrites all index entries of the row.
    index("sets_pending_by_tenant")
      .on(table.priority, table.tenantId, table.planAfter)
      .where(sql`host_id is null and deleted_at is null`),
    index("sets_pending_due")
      .on(table.planAfter)
      .where(sql`host_id is null and deleted_at is null`),
    index("sets_host")
      .on(table.hostId, table.hostGeneration)
      .where(sql`host_id is not null`),
    index("sets_service")
      .on(table.serviceId, table.id)
      .where(sql`deleted_at is null`),
    index("sets_tenant")
      .on(table.tenantId, table.id)
      .where(sql`deleted_at is null`),
    index("sets_replaces")
      .on(table.replaces)
      .where(sql`replaces is not null`),
    index("sets_moving")
      .on(table.serviceId)
      .where(sql`move_revision is not null`),
    index("sets_leaving")
      .on(table.id)
      .where(sql`leaving`),
    index("sets_deleted")
      .on(table.deletedAt)
      .where(sql`deleted_at is not null`),
    index("sets_changed_xid")
      .on(table.changedXid)
      .where(sql`changed_xid is not null`),
    check("sets_desired_known", sql`${table.desired} in (${quoted(setDesires)})`),
    check("sets_state_known", sql`${table.state} in (${quoted(setStates)})`),
    check(
      "sets_pending_has_no_host",
      sql`(${table.state} = 'pending') <= (${table.hostId} is null)`,
    ),
    check("sets_deleted_has_no_host", sql`${table.deletedAt} is null or ${table.hostId} is null`),
  ],
);

/** Every placement that was ever committed, with the reasons. */
export const placements = pgTable(
  "placements",
  {
    id: text("id").primaryKey(),
    setId: text("set_id").notNull(),
    hostId: text("host_id").notNull(),
    generation: int8("generation").notNull(),
    policyVersion: int8("policy_version").notNull(),
    score: int8("score").notNull(),
    because: jsonb("because").$type<Record<string, number>>().notNull(),
    createdAt: timestamptz("created_at").notNull().defaultNow(),
  },
  (table) => [index("placements_set").on(table.setId, table.id)],
);

/** Why a set was last rejected: one row a set while it is pending. */
export const rejections = pgTable("rejections", {
  setId: text("set_id").primaryKey(),
  policyVersion: int8("policy_version").notNull(),
  hostsTotal: integer("hosts_total").notNull(),
  reasons: jsonb("reasons").$type<{ reason: string; hosts: number }[]>().notNull(),
  at: timestamptz("at").notNull().defaultNow(),
});
