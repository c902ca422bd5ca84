import { sql } from "drizzle-orm";
import {
  bigserial,
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
import { type HostState, hostStates } from "../../contracts/api/hosts.ts";
import type { RebalanceSchedule } from "../../contracts/api/rebalances.ts";
import type { Reason } from "../../contracts/common/primitives.ts";
import type { AgentRecord, StoredCapabilities } from "./agent-record.ts";
import { changedXid, int8, quoted, timestamptz } from "./columns.ts";

type Percents = {
  cpuMillis: number;
  memoryBytes: number;
  volumeBytes: number;
  rootfsBytes: number;
};

/** A host that failed starts which succeed elsewhere gets no new sets for a time. */
export interface Quarantine {
  since: string;
  until: string;
  /** The number of quarantines in a row. Each one lasts longer than the one before. */
  count: number;
  reason: Reason;
}

/** The placement policy of each pool, which operators may change. A plan cites its version. */
export const hostPools = pgTable("host_pools", {
  name: text("name").primaryKey(),
  version: int8("version").notNull(),
  overcommitPercent: jsonb("overcommit_percent").$type<Percents>().notNull(),
  highWaterPercent: jsonb("high_water_percent").$type<Percents>().notNull(),
  /** Null if Berth starts no rebalances itself. */
  rebalance: jsonb("rebalance").$type<RebalanceSchedule>(),
});

export const hosts = pgTable(
  "hosts",
  {
    id: text("id").primaryKey(),
    name: text("name").notNull(),
    pool: text("pool").notNull(),
    zone: text("zone").notNull(),
    rack: text("rack").notNull(),
    labels: jsonb("labels").$type<Record<string, string>>().notNull(),
    taints: jsonb("taints").$type<{ key: string; value: string }[]>().notNull(),
    /**
     * The group of gateways to which the host belongs. Only operators change it: unlike labels, an
     * agent that enrolls cannot choose it. Null if the host is not a gateway.
     */
    gatewayGroup: text("gateway_group"),
    state: text("state").$type<HostState>().notNull(),
    reason: jsonb("reason").$type<Reason>(),
    cordoned: boolean("cordoned").notNull().default(false),
    draining: boolean("draining").notNull().default(false),
    /** Null if the planner may choose the host. */
    quarantine: jsonb("quarantine").$type<Quarantine>(),
    /**
     * Each change of the host's desired sets increments it. A set stores the generation of its
     * change.
     */
    generation: int8("generation").notNull().default(0),
    /** The generation that the agent has accepted. */
    acceptedGeneration: int8("accepted_generation").notNull().default(0),
    /**
     * After an expired lease, the host needs a full resync before it is ready: this fences it (I3).
     */
    resyncRequired: boolean("resync_required").notNull().default(false),
    /** The time at which the host became lost or unhealthy. Null while it is ready. */
    lostAt: timestamptz("lost_at"),
    /** The time at which the host last became ready after it was lost or unhealthy. */
    returnedAt: timestamptz("returned_at"),
    /** The time since which replacement is paused: too many hosts went down together (I12). */
    heldAt: timestamptz("held_at"),
    agentVersion: text("agent_version").notNull(),
    /** The agent process that manages the host. Null until an agent with an identity syncs. */
    agent: jsonb("agent").$type<AgentRecord>(),
    /** The capabilities of the agent and its machine. Null for an agent of an earlier release. */
    capabilities: jsonb("capabilities").$type<StoredCapabilities>(),
    /**
     * Since when the database may lack addresses that sets of the host have: after a restore, or
     * after a report of unknown sets. Null once the agent has reported the addresses of its sets.
     */
    addressesUnknownSince: timestamptz("addresses_unknown_since"),
    /**
     * When Berth last began to wait for these addresses because of a report of unknown sets. Later
     * reports begin no other wait for an hour. Null since a restore, after which it waits for all
     * hosts.
     */
    addressesAwaitedSince: timestamptz("addresses_awaited_since"),
    credentialHash: text("credential_hash").notNull(),
    /** The credential of a rotation, until its first use. Then it replaces `credentialHash`. */
    nextCredentialHash: text("next_credential_hash"),
    /** An operator requested the rotation of the credential, which has not ended. */
    rotationRequestedAt: timestamptz("rotation_requested_at"),
    /** The first use of the credential. Null for that of the enrollment. */
    credentialReplacedAt: timestamptz("credential_replaced_at"),
    leaseExpiresAt: timestamptz("lease_expires_at").notNull(),
    allocatableCpuMillis: int8("allocatable_cpu_millis").notNull(),
    allocatableMemoryBytes: int8("allocatable_memory_bytes").notNull(),
    allocatableVolumeBytes: int8("allocatable_volume_bytes").notNull(),
    allocatableRootfsBytes: int8("allocatable_rootfs_bytes").notNull(),
    allocatedCpuMillis: int8("allocated_cpu_millis").notNull().default(0),
    allocatedMemoryBytes: int8("allocated_memory_bytes").notNull().default(0),
    allocatedVolumeBytes: int8("allocated_volume_bytes").notNull().default(0),
    allocatedRootfsBytes: int8("allocated_rootfs_bytes").notNull().default(0),
    /**
     * The booked overhead of the host's sets, which the columns `allocated_*` do not include. The
     * `allocated` of the API adds it: see bookedMemorySql. The previous release does not maintain
     * these sums, so each usage report computes them again.
     */
    overheadMemoryBytes: int8("overhead_memory_bytes").notNull().default(0),
    overheadRootfsBytes: int8("overhead_rootfs_bytes").notNull().default(0),
    /** Booked amounts that the last report does not measure yet. See unreportedAmounts. */
    unreportedCpuMillis: int8("unreported_cpu_millis").notNull().default(0),
    unreportedMemoryBytes: int8("unreported_memory_bytes").notNull().default(0),
    unreportedVolumeBytes: int8("unreported_volume_bytes").notNull().default(0),
    unreportedRootfsBytes: int8("unreported_rootfs_bytes").notNull().default(0),
    usedCpuMillis: int8("used_cpu_millis").notNull().default(0),
    usedMemoryBytes: int8("used_memory_bytes").notNull().default(0),
    usedVolumeBytes: int8("used_volume_bytes").notNull().default(0),
    usedRootfsBytes: int8("used_rootfs_bytes").notNull().default(0),
    reclaimableVolumeBytes: int8("reclaimable_volume_bytes").notNull().default(0),
    trashedVolumeBytes: int8("trashed_volume_bytes").notNull().default(0),
    volumeReason: jsonb("volume_reason").$type<Reason>(),
    /** The space of images and of containers on Docker's disk. Null if unknown. */
    imageBytes: int8("image_bytes"),
    containerBytes: int8("container_bytes"),
    /**
     * The memory of each set and container in the last report, in bytes. The key of a container is
     * the first 12 characters of its id.
     */
    setMemory: jsonb("set_memory").$type<Record<string, number>>().notNull().default({}),
    reportedAt: timestamptz("reported_at"),
    images: jsonb("images").$type<string[]>().notNull().default([]),
    enrolledAt: timestamptz("enrolled_at").notNull().defaultNow(),
    changedXid: changedXid("changed_xid")
      .notNull()
      .default(sql`pg_current_xact_id()`),
  },
  (table) => [
    uniqueIndex("hosts_name_unique").on(table.name),
    uniqueIndex("hosts_credential_hash_unique").on(table.credentialHash),
    uniqueIndex("hosts_next_credential_hash_unique")
      .on(table.nextCredentialHash)
      .where(sql`next_credential_hash is not null`),
    index("hosts_changed_xid").on(table.changedXid),
    index("hosts_held")
      .on(table.heldAt)
      .where(sql`held_at is not null`),
    index("hosts_self_test_failed")
      .on(table.pool)
      .where(sql`capabilities->'selfTest'->>'state' = 'failed'`),
    index("hosts_addresses_unknown")
      .on(table.addressesUnknownSince)
      .where(sql`addresses_unknown_since is not null`),
    index("hosts_gateways")
      .on(table.id)
      .where(sql`gateway_group is not null`),
    index("hosts_networked")
      .on(table.id)
      .where(sql`capabilities->'features' @> '["networks"]'`),
    check("hosts_state_known", sql`${table.state} in (${quoted(hostStates)})`),
    check(
      "hosts_allocated_not_negative",
      sql`least(${table.allocatedCpuMillis}, ${table.allocatedMemoryBytes}, ${table.allocatedVolumeBytes}, ${table.allocatedRootfsBytes}) >= 0`,
    ),
  ],
);

/** Starts that an agent abandoned within the last hour, for the decision about a quarantine. */
export const hostStartFailures = pgTable(
  "host_start_failures",
  {
    id: bigserial("id", { mode: "number" }).primaryKey(),
    hostId: text("host_id")
      .notNull()
      .references(() => hosts.id, { onDelete: "cascade" }),
    serviceId: text("service_id").notNull(),
    revision: integer("revision").notNull(),
    at: timestamptz("at").notNull().defaultNow(),
  },
  (table) => [
    index("host_start_failures_host").on(table.hostId, table.at),
    // The failures of a revision on other hosts: then the image is at fault.
    index("host_start_failures_service").on(table.serviceId, table.revision),
    index("host_start_failures_at").on(table.at),
  ],
);

/**
 * The credentials of deleted hosts. Their agents learn from it that they must stop their sets: a
 * missing host proves nothing, because the database may be an older copy.
 */
export const deletedHosts = pgTable(
  "deleted_hosts",
  {
    hostId: text("host_id").primaryKey(),
    credentialHash: text("credential_hash").notNull(),
    /** The credential of a rotation that had not ended. */
    nextCredentialHash: text("next_credential_hash"),
    /** The hash of the machine's id. Null if its agent had none, or an older API deleted it. */
    machineId: text("machine_id"),
    deletedAt: timestamptz("deleted_at").notNull().defaultNow(),
  },
  (table) => [
    uniqueIndex("deleted_hosts_credential_hash_unique").on(table.credentialHash),
    index("deleted_hosts_next_credential_hash")
      .on(table.nextCredentialHash)
      .where(sql`next_credential_hash is not null`),
    index("deleted_hosts_deleted").on(table.deletedAt),
    index("deleted_hosts_machine").on(table.machineId),
  ],
);

/**
 * Sets on a host that this database does not know, by the reports of its agent. A restore or a
 * failover lost them. The agent manages them until an operator orders their deletion (I17).
 */
export const unknownSets = pgTable(
  "unknown_sets",
  {
    hostId: text("host_id")
      .notNull()
      .references(() => hosts.id, { onDelete: "cascade" }),
    setId: text("set_id").notNull(),
    firstReportedAt: timestamptz("first_reported_at").notNull().defaultNow(),
    /** Null until an operator orders the deletion of the set. */
    deletionOrderedAt: timestamptz("deletion_ordered_at"),
    /** Another host, which has the set in the database, has since reported that it is ready. */
    replacedAt: timestamptz("replaced_at"),
  },
  (table) => [
    primaryKey({ name: "unknown_sets_pkey", columns: [table.hostId, table.setId] }),
    index("unknown_sets_set").on(table.setId),
  ],
);

/**
 * One row: the time at which a job worker last recorded that it watches the fleet, and the end of
 * the last control-plane outage. During an outage, missing syncs do not show that a host is down
 * (I12). `gapStartedAt` is null unless no host syncs now.
 */
export const fleetWatch = pgTable(
  "fleet_watch",
  {
    id: boolean("id").primaryKey(),
    watchedAt: timestamptz("watched_at").notNull(),
    gapAt: timestamptz("gap_at"),
    gapStartedAt: timestamptz("gap_started_at"),
  },
  (table) => [check("fleet_watch_one_row", sql`${table.id}`)],
);
