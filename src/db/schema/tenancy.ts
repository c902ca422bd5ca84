import { sql } from "drizzle-orm";
import {
  check,
  index,
  pgTable,
  primaryKey,
  smallint,
  text,
  uniqueIndex,
} from "drizzle-orm/pg-core";
import { tokenRoles } from "../../contracts/api/tenancy.ts";
import { int8, timestamptz } from "./columns.ts";

/** `'a', 'b'` of a const tuple, for CHECK constraints. */
export function quoted(values: readonly string[]) {
  return sql.raw(values.map((value) => `'${value}'`).join(", "));
}

export const tenants = pgTable(
  "tenants",
  {
    id: text("id").primaryKey(),
    name: text("name").notNull(),
    setsMax: int8("sets_max").notNull(),
    cpuMillisMax: int8("cpu_millis_max").notNull(),
    memoryBytesMax: int8("memory_bytes_max").notNull(),
    createdAt: timestamptz("created_at").notNull().defaultNow(),
  },
  (table) => [uniqueIndex("tenants_name_unique").on(table.name)],
);

/**
 * What a tenant's services ask for together, in parts that are summed up: a trigger on services adds what changes to the part of its
 * connection, at commit, so that who asks reads a few rows instead of all services, and additions hardly wait for each other.
 */
export const tenantUses = pgTable(
  "tenant_uses",
  {
    tenantId: text("tenant_id")
      .notNull()
      .references(() => tenants.id, { onDelete: "cascade" }),
    /** The connection's process id modulo 16. */
    part: smallint("part").notNull(),
    /** Of one part each may be negative. */
    sets: int8("sets").notNull(),
    cpuMillis: int8("cpu_millis").notNull(),
    memoryBytes: int8("memory_bytes").notNull(),
  },
  (table) => [primaryKey({ name: "tenant_uses_pkey", columns: [table.tenantId, table.part] })],
);

/** Bearer tokens: only the SHA-256 of the secret is kept (the secret has 256 random bits, so no salt or stretching). */
export const tokens = pgTable(
  "tokens",
  {
    id: text("id").primaryKey(),
    name: text("name").notNull(),
    role: text("role").notNull(),
    tenantId: text("tenant_id").references(() => tenants.id),
    /** Of hook tokens. */
    hookId: text("hook_id"),
    /** Of enroll tokens. */
    pool: text("pool"),
    secretHash: text("secret_hash").notNull(),
    createdAt: timestamptz("created_at").notNull().defaultNow(),
    expiresAt: timestamptz("expires_at"),
    revokedAt: timestamptz("revoked_at"),
    usedAt: timestamptz("used_at"),
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

/** Answers to requests that carried an Idempotency-Key; swept after a day. */
export const idempotencyKeys = pgTable(
  "idempotency_keys",
  {
    /** Token id, so that one caller's keys never meet another's. */
    scope: text("scope").notNull(),
    key: text("key").notNull(),
    requestHash: text("request_hash").notNull(),
    /** Null while the first request is under way. */
    status: int8("status"),
    body: text("body"),
    createdAt: timestamptz("created_at").notNull().defaultNow(),
  },
  (table) => [
    uniqueIndex("idempotency_keys_unique").on(table.scope, table.key),
    index("idempotency_keys_created_at").on(table.createdAt),
  ],
);
