import { sql } from "drizzle-orm";
import {
  boolean,
  check,
  index,
  jsonb,
  pgTable,
  primaryKey,
  smallint,
  text,
  uniqueIndex,
} from "drizzle-orm/pg-core";
import {
  defaultGrants,
  type Grants,
  type TokenRole,
  tokenRoles,
} from "../../contracts/api/tenancy.ts";
import { changedXid, int8, quoted, timestamptz } from "./columns.ts";

const unboundedBytes = 2 ** 51;

export const tenants = pgTable(
  "tenants",
  {
    id: text("id").primaryKey(),
    name: text("name").notNull(),
    /** Counts the changes of the quota and the grants. */
    generation: int8("generation").notNull().default(1),
    setsMax: int8("sets_max").notNull(),
    cpuMillisMax: int8("cpu_millis_max").notNull(),
    memoryBytesMax: int8("memory_bytes_max").notNull(),
    volumeBytesMax: int8("volume_bytes_max").notNull().default(unboundedBytes),
    rootfsBytesMax: int8("rootfs_bytes_max").notNull().default(unboundedBytes),
    /** A tenant whose trash is larger gets no new volumes. */
    trashBytesMax: int8("trash_bytes_max").notNull().default(unboundedBytes),
    /** The pools, tolerations, host labels and priorities that an admin grants. */
    grants: jsonb("grants").$type<Grants>().notNull().default(defaultGrants),
    createdAt: timestamptz("created_at").notNull().defaultNow(),
  },
  (table) => [uniqueIndex("tenants_name_unique").on(table.name)],
);

/** Amounts of existing sets and of the trash. A set exists until its host reports it absent. */
const existingAmounts = {
  existingSets: int8("existing_sets").notNull().default(0),
  existingCpuMillis: int8("existing_cpu_millis").notNull().default(0),
  existingMemoryBytes: int8("existing_memory_bytes").notNull().default(0),
  existingVolumeBytes: int8("existing_volume_bytes").notNull().default(0),
  existingRootfsBytes: int8("existing_rootfs_bytes").notNull().default(0),
  trashBytes: int8("trash_bytes").notNull().default(0),
};

/**
 * The usage of each tenant, in up to 16 parts that a reader adds up.
 *
 * Triggers on services, sets and volumes maintain the parts. They write at commit, to the part of
 * their connection, so that transactions of one tenant rarely wait for each other.
 */
export const tenantUsage = pgTable(
  "tenant_uses",
  {
    tenantId: text("tenant_id")
      .notNull()
      .references(() => tenants.id, { onDelete: "cascade" }),
    /** The process id of the connection, modulo 16. */
    part: smallint("part").notNull(),
    /** Intended: desired replicas times the newest template. One part alone may be negative. */
    sets: int8("sets").notNull(),
    cpuMillis: int8("cpu_millis").notNull(),
    memoryBytes: int8("memory_bytes").notNull(),
    volumeBytes: int8("volume_bytes").notNull().default(0),
    rootfsBytes: int8("rootfs_bytes").notNull().default(0),
    ...existingAmounts,
  },
  (table) => [primaryKey({ name: "tenant_uses_pkey", columns: [table.tenantId, table.part] })],
);

/**
 * Changes of `tenant_uses` by the current transaction, which adds them up at its commit. Other
 * transactions see an empty table. It is unlogged, because no row outlives its transaction.
 */
export const tenantUsageChanges = pgTable(
  "tenant_use_changes",
  {
    changedXid: changedXid("changed_xid")
      .notNull()
      .default(sql`pg_current_xact_id()`),
    /** The row at whose commit a trigger adds up all rows of the transaction. */
    isFirst: boolean("is_first")
      .notNull()
      .default(sql`is_first_tenant_use_change()`),
    tenantId: text("tenant_id").notNull(),
    ...existingAmounts,
  },
  (table) => [index("tenant_use_changes_xid").on(table.changedXid)],
);

/** Credentials of tenants for private registries of images. */
export const registryCredentials = pgTable(
  "registry_credentials",
  {
    id: text("id").primaryKey(),
    tenantId: text("tenant_id")
      .notNull()
      .references(() => tenants.id),
    /** As Docker names it: `docker.io`, or a host with an optional port, in lower case. */
    registry: text("registry").notNull(),
    username: text("username").notNull(),
    /** The key that encrypted the password; see lib/keyring.ts. */
    keyId: text("key_id").notNull(),
    ciphertext: text("ciphertext").notNull(),
    createdAt: timestamptz("created_at").notNull().defaultNow(),
    updatedAt: timestamptz("updated_at").notNull().defaultNow(),
  },
  (table) => [
    uniqueIndex("registry_credentials_registry_unique").on(table.tenantId, table.registry),
  ],
);

/** Bearer tokens. A secret has 256 random bits, so its SHA-256 needs no salt and no stretching. */
export const tokens = pgTable(
  "tokens",
  {
    id: text("id").primaryKey(),
    name: text("name").notNull(),
    role: text("role").$type<TokenRole>().notNull(),
    tenantId: text("tenant_id").references(() => tenants.id),
    /** The hook of a hook token. */
    hookId: text("hook_id"),
    /** The host pool of an enroll token. */
    pool: text("pool"),
    secretHash: text("secret_hash").notNull(),
    createdAt: timestamptz("created_at").notNull().defaultNow(),
    expiresAt: timestamptz("expires_at"),
    revokedAt: timestamptz("revoked_at"),
    usedAt: timestamptz("used_at"),
    /** The token that a rotation created. A token has at most one successor. */
    successorId: text("successor_id"),
  },
  (table) => [
    uniqueIndex("tokens_secret_hash_unique").on(table.secretHash),
    index("tokens_tenant_id").on(table.tenantId),
    check("tokens_role_known", sql`${table.role} in (${quoted(tokenRoles)})`),
    check(
      "tokens_tenant_matches_role",
      sql`${table.role} <> 'tenant' or ${table.tenantId} is not null`,
    ),
  ],
);
