import { bigint, customType, timestamp } from "drizzle-orm/pg-core";

/** A bigint column whose values are below 2^53, as a number. */
export const int8 = (name: string) => bigint(name, { mode: "number" });

/** A timestamptz column. Queries convert it with `isoTime`. */
export const timestamptz = (name: string) => timestamp(name, { withTimezone: true, mode: "date" });

/**
 * The transaction that last changed a row in a way that affects the planner. A trigger sets it.
 * Readers query the rows of transactions that were in progress at their last read
 * (pg_snapshot_xmin). Unlike a sequence or a time, this misses no late commit.
 */
export const changedXid = customType<{ data: string }>({ dataType: () => "xid8" });
