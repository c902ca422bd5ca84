import { sql } from "drizzle-orm";
import { boolean, check, index, jsonb, pgTable, text } from "drizzle-orm/pg-core";
import type { DrainHost } from "../../contracts/api/hosts.ts";
import {
  type MaintenanceAction,
  maintenanceActions,
  type MaintenanceState,
  maintenanceStates,
} from "../../contracts/api/maintenances.ts";
import { quoted, timestamptz } from "./columns.ts";
import { hosts } from "./hosts.ts";

/** Planned times in which a host accepts no sets. Rows change only under the lock of the host. */
export const hostMaintenances = pgTable(
  "host_maintenances",
  {
    id: text("id").primaryKey(),
    hostId: text("host_id")
      .notNull()
      .references(() => hosts.id, { onDelete: "cascade" }),
    startsAt: timestamptz("starts_at").notNull(),
    endsAt: timestamptz("ends_at").notNull(),
    action: text("action").$type<MaintenanceAction>().notNull(),
    /** The options of the drain. */
    options: jsonb("options").$type<DrainHost>().notNull().default({}),
    state: text("state").$type<MaintenanceState>().notNull().default("planned"),
    /** The maintenance cordoned the host, so its end uncordons it. */
    hasCordoned: boolean("has_cordoned").notNull().default(false),
    byName: text("by_name"),
    reason: text("reason"),
    createdAt: timestamptz("created_at").notNull().defaultNow(),
  },
  (table) => [
    index("host_maintenances_host").on(table.hostId, table.startsAt),
    // Those that begin or end next.
    index("host_maintenances_planned")
      .on(table.startsAt)
      .where(sql`state = 'planned'`),
    index("host_maintenances_active")
      .on(table.endsAt)
      .where(sql`state = 'active'`),
    check("host_maintenances_state_known", sql`${table.state} in (${quoted(maintenanceStates)})`),
    check(
      "host_maintenances_action_known",
      sql`${table.action} in (${quoted(maintenanceActions)})`,
    ),
    check("host_maintenances_end_after_start", sql`${table.endsAt} > ${table.startsAt}`),
  ],
);
