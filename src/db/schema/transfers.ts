import { sql } from "drizzle-orm";
import { check, index, integer, jsonb, pgTable, text } from "drizzle-orm/pg-core";
import {
  type RebalanceCost,
  type RebalanceGoal,
  rebalanceGoals,
  type RebalanceMove,
  type RebalanceState,
  rebalanceStates,
} from "../../contracts/api/rebalances.ts";
import { type TransferState, transferStates } from "../../contracts/api/transfers.ts";
import type { Reason } from "../../contracts/common/primitives.ts";
import { int8, quoted, timestamptz } from "./columns.ts";
import { hosts } from "./hosts.ts";
import { sets } from "./sets.ts";

/**
 * Copies of volumes to other hosts, for moves of sets with their data. Rows change only under the
 * lock of a host: that of the source, or that of the target for its report.
 */
export const transfers = pgTable(
  "transfers",
  {
    id: text("id").primaryKey(),
    setId: text("set_id")
      .notNull()
      .references(() => sets.id, { onDelete: "cascade" }),
    volumeId: text("volume_id").notNull(),
    fromHostId: text("from_host_id")
      .notNull()
      .references(() => hosts.id, { onDelete: "cascade" }),
    toHostId: text("to_host_id")
      .notNull()
      .references(() => hosts.id, { onDelete: "cascade" }),
    /** Passes before the last one copy while the set runs. */
    pass: integer("pass").notNull().default(1),
    state: text("state").$type<TransferState>().notNull().default("requested"),
    totalBytes: int8("total_bytes"),
    copiedBytes: int8("copied_bytes").notNull().default(0),
    /** The SHA-256 of the list of checksums of all chunks. Null before the end of a pass. */
    checksum: text("checksum"),
    bytesPerSecond: int8("bytes_per_second"),
    reason: jsonb("reason").$type<Reason>(),
    createdAt: timestamptz("created_at").notNull().defaultNow(),
    updatedAt: timestamptz("updated_at").notNull().defaultNow(),
  },
  (table) => [
    index("transfers_set").on(table.setId),
    index("transfers_from_host").on(table.fromHostId),
    index("transfers_to_host").on(table.toHostId),
    check("transfers_state_known", sql`${table.state} in (${quoted(transferStates)})`),
    check("transfers_between_hosts", sql`${table.fromHostId} <> ${table.toHostId}`),
  ],
);

/** Rebalances of pools: a bounded list of moves, with its gain and its cost. */
export const rebalances = pgTable(
  "rebalances",
  {
    id: text("id").primaryKey(),
    pool: text("pool").notNull(),
    goal: text("goal").$type<RebalanceGoal>().notNull(),
    state: text("state").$type<RebalanceState>().notNull(),
    moves: jsonb("moves").$type<RebalanceMove[]>().notNull(),
    gain: int8("gain").notNull(),
    cost: jsonb("cost").$type<RebalanceCost>().notNull(),
    /** The number of moves that have ended. */
    moved: integer("moved").notNull().default(0),
    reason: jsonb("reason").$type<Reason>(),
    /** Null for a rebalance by the schedule of the pool. */
    byName: text("by_name"),
    createdAt: timestamptz("created_at").notNull().defaultNow(),
    endedAt: timestamptz("ended_at"),
  },
  (table) => [
    index("rebalances_pool").on(table.pool, table.id),
    index("rebalances_running")
      .on(table.id)
      .where(sql`state = 'running'`),
    index("rebalances_ended")
      .on(table.endedAt)
      .where(sql`ended_at is not null`),
    check("rebalances_goal_known", sql`${table.goal} in (${quoted(rebalanceGoals)})`),
    check("rebalances_state_known", sql`${table.state} in (${quoted(rebalanceStates)})`),
  ],
);
