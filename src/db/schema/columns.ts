import { sql } from "drizzle-orm";
import { bigint, customType, timestamp } from "drizzle-orm/pg-core";

/** A bigint column whose values are below 2^53, as a number. */
export const int8 = (name: string) => bigint(name, { mode: "number" });

/** A timestamptz column: a Date in typed queries. Raw SQL converts it with `isoTime`. */
export const timestamptz = (name: string) => timestamp(name, { withTimezone: true, mode: "date" });

/**
 * The last transaction that changed a row in a way that affects the planner. A trigger sets it. A
 * reader selects rows changed by transactions that were still running at its previous read
 * (pg_snapshot_xmin). Unlike a sequence or a time, this misses no late commit.
 */
export const changedXid = customType<{ data: string }>({ dataType: () => "xid8" });

/** Returns the values as `'a', 'b'`, for CHECK constraints. */
export function quoted(values: readonly string[]) {
  return sql.raw(values.map((value) => `'${value}'`).join(", "));
}
