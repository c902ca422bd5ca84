import { index, integer, jsonb, pgTable, text } from "drizzle-orm/pg-core";
import { int8, timestamptz } from "./columns.ts";

/** The committed placements with the parts of their scores. Retention deletes superseded ones. */
export const placements = pgTable(
  "placements",
  {
    id: text("id").primaryKey(),
    setId: text("set_id").notNull(),
    hostId: text("host_id").notNull(),
    generation: int8("generation").notNull(),
    policyVersion: int8("policy_version").notNull(),
    score: int8("score").notNull(),
    because: jsonb("because").$type<Record<string, number>>().notNull(),
    createdAt: timestamptz("created_at").notNull().defaultNow(),
  },
  (table) => [index("placements_set").on(table.setId, table.id)],
);

/** The reasons of the last rejection: one row for each pending set that was rejected. */
export const rejections = pgTable("rejections", {
  setId: text("set_id").primaryKey(),
  policyVersion: int8("policy_version").notNull(),
  hostsTotal: integer("hosts_total").notNull(),
  reasons: jsonb("reasons").$type<{ reason: string; hosts: number }[]>().notNull(),
  at: timestamptz("at").notNull().defaultNow(),
});
