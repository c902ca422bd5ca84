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
import type { Reason } from "../../contracts/common/primitives.ts";
import {
  type OperationKind,
  operationKinds,
  type OperationOwner,
  operationOwners,
  type OperationPhase,
  operationPhases,
} from "../../contracts/api/operations.ts";
import { int8, quoted, timestamptz } from "./columns.ts";
import { hosts } from "./hosts.ts";
import { services } from "./services.ts";
import { sets } from "./sets.ts";

/** The owner as the database stores it: its word for `user` is `person`. */
export type StoredOwner = Exclude<OperationOwner, "user"> | "person";
const storedOwners = operationOwners.map((owner): StoredOwner =>
  owner === "user" ? "person" : owner,
);

/**
 * The one change in progress on a set; see docs/internals/operations.md. Starts, stops and removals
 * have no row: `sets.desired` and `sets.state` imply them.
 */
export const operations = pgTable(
  "operations",
  {
    setId: text("set_id")
      .primaryKey()
      .references(() => sets.id, { onDelete: "cascade" }),
    serviceId: text("service_id").notNull(),
    kind: text("kind").$type<OperationKind>().notNull(),
    phase: text("phase").$type<OperationPhase>().notNull(),
    owner: text("owner").$type<StoredOwner>().notNull(),
    /** The host whose drain created the move. */
    drainHostId: text("drain_host_id"),
    /** A resize without capacity on the host may move the set. */
    mayMove: boolean("may_move").notNull().default(false),
    /** The user accepts that the set restarts with an empty volume (I13). */
    discardsVolume: boolean("discards_volume").notNull().default(false),
    /** The rollout that created the update. */
    rolloutId: text("rollout_id"),
    /** An update replaces all containers of the set on its host. */
    restarts: boolean("restarts").notNull().default(false),
    /** The host to which a user moves the set. Null if the planner chooses. */
    targetHostId: text("target_host_id"),
    /** The move copies the volume to the next host. */
    movesVolume: boolean("moves_volume").notNull().default(false),
    transferId: text("transfer_id"),
    /** The revision of the set after the operation. Null if it keeps its own. */
    toRevision: integer("to_revision"),
    /** The size of the set after the operation. Null if it keeps its own. */
    cpuMillis: int8("cpu_millis"),
    memoryBytes: int8("memory_bytes"),
    volumeBytes: int8("volume_bytes"),
    /** The size to which a refused resize reverts. */
    formerCpuMillis: int8("former_cpu_millis"),
    formerMemoryBytes: int8("former_memory_bytes"),
    formerVolumeBytes: int8("former_volume_bytes"),
    /** In the phase `replacing`: the set that becomes ready before this one is removed. */
    replacementSetId: text("replacement_set_id"),
    /** Why the operation waits (I5). */
    blocked: jsonb("blocked").$type<Reason>(),
    attempts: integer("attempts").notNull().default(0),
    dueAt: timestamptz("due_at").notNull().defaultNow(),
    deadlineAt: timestamptz("deadline_at"),
    /** The first order to the agent. Null while it waits. */
    beganAt: timestamptz("began_at"),
    createdAt: timestamptz("created_at").notNull().defaultNow(),
  },
  (table) => [
    index("operations_service").on(table.serviceId),
    uniqueIndex("operations_replacement_unique")
      .on(table.replacementSetId)
      .where(sql`replacement_set_id is not null`),
    check("operations_kind_known", sql`${table.kind} in (${quoted(operationKinds)})`),
    check("operations_phase_known", sql`${table.phase} in (${quoted(operationPhases)})`),
    check("operations_owner_known", sql`${table.owner} in (${quoted(storedOwners)})`),
    check(
      "operations_size_whole",
      sql`num_nulls(${table.cpuMillis}, ${table.memoryBytes}, ${table.volumeBytes}) in (0, 3)`,
    ),
  ],
);

/**
 * Capacity that Berth books for a set on its next host, before it stops the set on its current
 * host. It includes the overhead of the set's containers. The sums `allocated_*` of the next host
 * contain it. Berth ends the claim when it places the set.
 */
export const claims = pgTable(
  "claims",
  {
    setId: text("set_id")
      .primaryKey()
      .references(() => sets.id, { onDelete: "cascade" }),
    hostId: text("host_id")
      .notNull()
      .references(() => hosts.id, { onDelete: "cascade" }),
    cpuMillis: int8("cpu_millis").notNull(),
    memoryBytes: int8("memory_bytes").notNull(),
    volumeBytes: int8("volume_bytes").notNull(),
    rootfsBytes: int8("rootfs_bytes").notNull(),
    createdAt: timestamptz("created_at").notNull().defaultNow(),
  },
  (table) => [index("claims_host").on(table.hostId)],
);

/** A resize of a service in rounds. The last round deletes the row. */
export const serviceResizes = pgTable("service_resizes", {
  serviceId: text("service_id")
    .primaryKey()
    .references(() => services.id, { onDelete: "cascade" }),
  /** Null if the sets keep theirs. */
  cpuMillis: int8("cpu_millis"),
  memoryBytes: int8("memory_bytes"),
  volumeBytes: int8("volume_bytes"),
  mayMove: boolean("may_move").notNull(),
  createdAt: timestamptz("created_at").notNull().defaultNow(),
});

/** The options of a drain. The row is deleted at the end of the drain. */
export const drains = pgTable("drains", {
  hostId: text("host_id")
    .primaryKey()
    .references(() => hosts.id, { onDelete: "cascade" }),
  /** After this time an event reports the miss. A forced drain then ignores disruption budgets. */
  deadlineAt: timestamptz("deadline_at"),
  isForced: boolean("is_forced").notNull().default(false),
  discardsVolumes: boolean("discards_volumes").notNull().default(false),
  /** The time at which an event reported the missed deadline. */
  reportedAt: timestamptz("reported_at"),
  createdAt: timestamptz("created_at").notNull().defaultNow(),
});
