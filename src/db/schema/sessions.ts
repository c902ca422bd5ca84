import { sql } from "drizzle-orm";
import { check, index, integer, jsonb, pgTable, text, uniqueIndex } from "drizzle-orm/pg-core";
import {
  type SessionClient,
  sessionClients,
  type SessionKind,
  sessionKinds,
  type SessionState,
  sessionStates,
  type SshKeyRole,
  sshKeyRoles,
} from "../../contracts/api/sessions.ts";
import type { Reason } from "../../contracts/common/primitives.ts";
import { int8, quoted, timestamptz } from "./columns.ts";
import { tenants } from "./tenancy.ts";

/**
 * Sessions with containers, for audits and limits (I24). Their bytes never reach the database. The
 * ids of objects that are deleted meanwhile stay.
 */
export const sessions = pgTable(
  "sessions",
  {
    id: text("id").primaryKey(),
    tenantId: text("tenant_id")
      .notNull()
      .references(() => tenants.id),
    serviceId: text("service_id").notNull(),
    setId: text("set_id").notNull(),
    hostId: text("host_id").notNull(),
    /** Null for a transfer. */
    container: text("container"),
    kind: text("kind").$type<SessionKind>().notNull(),
    state: text("state").$type<SessionState>().notNull().default("requested"),
    /** Null for a session of Berth itself. */
    byTokenId: text("by_token_id"),
    byName: text("by_name"),
    client: text("client").$type<SessionClient>(),
    exitCode: integer("exit_code"),
    /** Why it was refused, or ended without an exit code. */
    reason: jsonb("reason").$type<Reason>(),
    /** To the container and from it. */
    bytesIn: int8("bytes_in").notNull().default(0),
    bytesOut: int8("bytes_out").notNull().default(0),
    /** The name of the file with the recording. Null without one. */
    recording: text("recording"),
    requestedAt: timestamptz("requested_at").notNull().defaultNow(),
    openedAt: timestamptz("opened_at"),
    endedAt: timestamptz("ended_at"),
  },
  (table) => [
    index("sessions_tenant").on(table.tenantId, table.id),
    index("sessions_host_open")
      .on(table.hostId)
      .where(sql`ended_at is null`),
    // Those of a token, for its limit and for its revocation.
    index("sessions_token_open")
      .on(table.byTokenId)
      .where(sql`ended_at is null`),
    index("sessions_ended")
      .on(table.endedAt)
      .where(sql`ended_at is not null`),
    check("sessions_kind_known", sql`${table.kind} in (${quoted(sessionKinds)})`),
    check("sessions_state_known", sql`${table.state} in (${quoted(sessionStates)})`),
    check("sessions_client_known", sql`${table.client} in (${quoted(sessionClients)})`),
    check(
      "sessions_end_has_time",
      sql`(${table.state} = 'ended') = (${table.endedAt} is not null)`,
    ),
    check(
      "sessions_container_unless_transfer",
      sql`(${table.kind} = 'transfer') = (${table.container} is null)`,
    ),
    // The last barrier before a shell in an infra container (I10).
    check("sessions_not_in_infra", sql`${table.container} <> 'infra'`),
  ],
);

/**
 * The SSH keys of tenants. Two tenants may have the same key: the user name of a connection names a
 * set, and the set determines the tenant.
 */
export const sshKeys = pgTable(
  "ssh_keys",
  {
    id: text("id").primaryKey(),
    tenantId: text("tenant_id")
      .notNull()
      .references(() => tenants.id),
    name: text("name").notNull(),
    algorithm: text("algorithm").notNull(),
    /** SHA-256 of the public key, as `ssh-keygen -l` prints it. */
    fingerprint: text("fingerprint").notNull(),
    publicKey: text("public_key").notNull(),
    role: text("role").$type<SshKeyRole>().notNull(),
    createdAt: timestamptz("created_at").notNull().defaultNow(),
    lastUsedAt: timestamptz("last_used_at"),
    revokedAt: timestamptz("revoked_at"),
  },
  (table) => [
    uniqueIndex("ssh_keys_fingerprint_unique")
      .on(table.tenantId, table.fingerprint)
      .where(sql`revoked_at is null`),
    uniqueIndex("ssh_keys_name_unique")
      .on(table.tenantId, table.name)
      .where(sql`revoked_at is null`),
    index("ssh_keys_tenant").on(table.tenantId),
    check("ssh_keys_role_known", sql`${table.role} in (${quoted(sshKeyRoles)})`),
  ],
);
