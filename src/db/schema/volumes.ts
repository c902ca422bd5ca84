import { check, index, jsonb, pgTable, text } from "drizzle-orm/pg-core";
import { sql } from "drizzle-orm";
import { type VolumeState, volumeStates } from "../../contracts/api/volumes.ts";
import type { Reason } from "../../contracts/common/primitives.ts";
import { quoted } from "./tenancy.ts";
import { int8, timestamptz } from "./columns.ts";
import { hosts } from "./hosts.ts";

/** What hosts say of their volumes. A host's own tags are the truth; a row follows them. */
export const volumes = pgTable(
  "volumes",
  {
    id: text("id").primaryKey(),
    hostId: text("host_id")
      .notNull()
      .references(() => hosts.id),
    tenantId: text("tenant_id").notNull(),
    /** By name: a service may be gone while its volumes are still in the trash. */
    service: text("service").notNull(),
    setId: text("set_id").notNull(),
    state: text("state").$type<VolumeState>().notNull(),
    sizeBytes: int8("size_bytes").notNull(),
    usedBytes: int8("used_bytes"),
    trashedAt: timestamptz("trashed_at"),
    expiresAt: timestamptz("expires_at"),
    purgeAskedAt: timestamptz("purge_asked_at"),
    /** Why its host did not purge it when it was to. */
    reason: jsonb("reason").$type<Reason>(),
    reportedAt: timestamptz("reported_at").notNull().defaultNow(),
  },
  (table) => [
    index("volumes_tenant").on(table.tenantId, table.id),
    index("volumes_host").on(table.hostId, table.id),
    check("volumes_state_known", sql`${table.state} in (${quoted(volumeStates)})`),
  ],
);
