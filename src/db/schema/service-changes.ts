import { sql } from "drizzle-orm";
import { check, index, integer, jsonb, pgTable, text, uniqueIndex } from "drizzle-orm/pg-core";
import { type ServiceChangeKind, serviceChangeKinds } from "../../contracts/api/service-changes.ts";
import { int8, quoted, timestamptz } from "./columns.ts";
import { services } from "./services.ts";

/**
 * The history of services: who changed what. Rows change only under the lock of their service.
 * Changes by the autoscaler are decisions and have no row.
 */
export const serviceChanges = pgTable(
  "service_changes",
  {
    id: text("id").primaryKey(),
    serviceId: text("service_id")
      .notNull()
      .references(() => services.id, { onDelete: "cascade" }),
    tenantId: text("tenant_id").notNull(),
    /** Counts the changes of the service. */
    number: integer("number").notNull(),
    kind: text("kind").$type<ServiceChangeKind>().notNull(),
    /** The changed members of the service, before and after. An undo restores `before`. */
    before: jsonb("before").$type<Record<string, unknown>>().notNull(),
    after: jsonb("after").$type<Record<string, unknown>>().notNull(),
    summary: text("summary").notNull(),
    byTokenId: text("by_token_id"),
    byName: text("by_name"),
    /** The generation of the service after the change. */
    generation: int8("generation").notNull(),
    at: timestamptz("at").notNull().defaultNow(),
    /** The change that this change undoes. */
    undoesId: text("undoes_id"),
    /** The change that undid this change. Null again after the undo of that change. */
    undoneById: text("undone_by_id"),
  },
  (table) => [
    uniqueIndex("service_changes_number_unique").on(table.serviceId, table.number),
    index("service_changes_at").on(table.at),
    check("service_changes_kind_known", sql`${table.kind} in (${quoted(serviceChangeKinds)})`),
  ],
);
