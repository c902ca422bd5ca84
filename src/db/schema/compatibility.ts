import { sql } from "drizzle-orm";
import { boolean, check, integer, pgTable } from "drizzle-orm/pg-core";

/**
 * The oldest build that may run on this schema. The table has one row. A migration that breaks
 * older builds sets `migrations_min` to its own number. See docs/checklists/add-migration.md.
 */
export const schemaCompatibility = pgTable(
  "schema_compatibility",
  {
    isOnlyRow: boolean("is_only_row").primaryKey().default(true),
    /** The minimum number of migrations that a build must have. */
    migrationsMin: integer("migrations_min").notNull(),
  },
  (table) => [check("schema_compatibility_one_row", sql`${table.isOnlyRow}`)],
);
