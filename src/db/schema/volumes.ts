import { check, index, jsonb, pgTable, text } from "drizzle-orm/pg-core";
import { sql } from "drizzle-orm";
import { type VolumeState, volumeStates } from "../../contracts/api/volumes.ts";
import type { Reason } from "../../contracts/common/primitives.ts";
import { int8, quoted, timestamptz } from "./columns.ts";
import { hosts } from "./hosts.ts";

/** Volumes as hosts report them. The tags on the host are authoritative; a row is a copy. */
export const volumes = pgTable(
  "volumes",
  {
    id: text("id").primaryKey(),
    hostId: text("host_id")
      .notNull()
      .references(() => hosts.id),
    tenantId: text("tenant_id").notNull(),
    /** The name of the service. A trashed volume may outlive it. */
    service: text("service").notNull(),
    setId: text("set_id").notNull(),
    state: text("state").$type<VolumeState>().notNull(),
    sizeBytes: int8("size_bytes").notNull(),
    usedBytes: int8("used_bytes"),
    trashedAt: timestamptz("trashed_at"),
    expiresAt: timestamptz("expires_at"),
    purgeAskedAt: timestamptz("purge_asked_at"),
    /** Why the last purge failed. */
    reason: jsonb("reason").$type<Reason>(),
    reportedAt: timestamptz("reported_at").notNull().defaultNow(),
  },
  (table) => [
    index("volumes_tenant").on(table.tenantId, table.id),
    index("volumes_host").on(table.hostId, table.id),
    check("volumes_state_known", sql`${table.state} in (${quoted(volumeStates)})`),
  ],
);
