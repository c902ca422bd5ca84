import { sql } from "drizzle-orm";
import { boolean, check, index, integer, jsonb, pgTable, text } from "drizzle-orm/pg-core";
import type { EndedOperation } from "../../contracts/api/operations.ts";
import {
  type ContainerStatus,
  desiredSetStates,
  observedSetStates,
} from "../../contracts/api/sets.ts";
import type { Reason } from "../../contracts/common/primitives.ts";
import { changedXid, int8, quoted, timestamptz } from "./columns.ts";
import { hosts } from "./hosts.ts";
import { services } from "./services.ts";

/**
 * Sets. A set with a host is booked on it. The transaction that stores the agent's report of an
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
    desired: text("desired")
      .$type<(typeof desiredSetStates)[number]>()
      .notNull()
      .default("running"),
    state: text("state").$type<(typeof observedSetStates)[number]>().notNull().default("pending"),
    ready: boolean("ready").notNull().default(false),
    reason: jsonb("reason").$type<Reason>(),
    priority: integer("priority").notNull(),
    /**
     * The booked amounts. Until the set is `sized`, they are the larger of its previous and new
     * size.
     */
    cpuMillis: int8("cpu_millis").notNull(),
    memoryBytes: int8("memory_bytes").notNull(),
    volumeBytes: int8("volume_bytes").notNull(),
    rootfsBytes: int8("rootfs_bytes").notNull(),
    /** Booked on its host in addition, for its containers: see container-overhead.ts. */
    overheadMemoryBytes: int8("overhead_memory_bytes").notNull().default(0),
    overheadRootfsBytes: int8("overhead_rootfs_bytes").notNull().default(0),
    hostId: text("host_id").references(() => hosts.id),
    /** The host's generation when this set last changed. */
    hostGeneration: int8("host_generation").notNull().default(0),
    /** The agent replaces containers of an older set generation. */
    restartGeneration: int8("restart_generation").notNull().default(0),
    /**
     * Superseded by `operations`. This release also writes it: processes of the previous release
     * run during an upgrade and finish such moves. The next release drops it.
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
    /** Sets of a lower priority make way for this set on that host, until that time. */
    nominatedHostId: text("nominated_host_id"),
    nominatedUntil: timestamptz("nominated_until"),
    /** A trashed volume of its host that the set gets instead of a new one. */
    restoreVolumeId: text("restore_volume_id"),
    /** False from a resize until the agent reports that the kernel enforces the new amounts. */
    sized: boolean("sized").notNull().default(true),
    /** The last operation, if it did not reach its goal. */
    lastOperation: jsonb("last_operation").$type<EndedOperation>(),
    /** Superseded by `operations`. The next release drops these four columns. */
    formerRevision: integer("former_revision"),
    blockedReason: jsonb("held_back").$type<Reason>(),
    replaces: text("replaces"),
    moveRevision: integer("move_revision"),
    /** The time at which the set became ready. Null while it is not ready. */
    readySince: timestamptz("ready_since"),
    /** The time at which a ready set became unready. Null while it is ready, and before it was. */
    unreadySince: timestamptz("unready_since"),
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
    /** Null until the first booking, because only sets with a host affect the planner. */
    changedXid: changedXid("changed_xid"),
  },
  (table) => [
    // A pending set has no host. The condition does not name `state`, which changes most: an update
    // of a column in an index condition rewrites all index entries of the row.
    index("sets_pending_by_tenant")
      .on(table.priority, table.tenantId, table.planAfter)
      .where(sql`host_id is null and deleted_at is null`),
    // It names `desired`, so that the planner uses it only for the due sets of all tenants.
    index("sets_pending_due")
      .on(table.planAfter)
      .where(sql`host_id is null and deleted_at is null and desired <> 'deleted'`),
    index("sets_host")
      .on(table.hostId, table.hostGeneration)
      .where(sql`host_id is not null`),
    index("sets_service")
      .on(table.serviceId, table.id)
      .where(sql`deleted_at is null`),
    index("sets_tenant")
      .on(table.tenantId, table.id)
      .where(sql`deleted_at is null`),
    // Removed sets that their hosts still have: those of a tenant for its quota, those of a service
    // for its spread. The loss of a zone leaves many until its hosts return or are deleted.
    index("sets_removing")
      .on(table.tenantId, table.hostId)
      .where(sql`desired = 'deleted' and host_id is not null`),
    index("sets_removing_service")
      .on(table.serviceId, table.hostId)
      .where(sql`desired = 'deleted' and host_id is not null`),
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
    check("sets_desired_known", sql`${table.desired} in (${quoted(desiredSetStates)})`),
    check("sets_state_known", sql`${table.state} in (${quoted(observedSetStates)})`),
    check(
      "sets_pending_has_no_host",
      sql`(${table.state} = 'pending') <= (${table.hostId} is null)`,
    ),
    check("sets_deleted_has_no_host", sql`${table.deletedAt} is null or ${table.hostId} is null`),
  ],
);
