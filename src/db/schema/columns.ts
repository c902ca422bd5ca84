import { bigint, customType, timestamp } from "drizzle-orm/pg-core";

/** A bigint below 2^53, as a number. */
export const int8 = (name: string) => bigint(name, { mode: "number" });

/** timestamptz as an ISO string in the shape the contracts answer with; see `isoTime` in queries. */
export const timestamptz = (name: string) => timestamp(name, { withTimezone: true, mode: "date" });

/**
 * The transaction that last changed a row in a way that matters to the planner, set by a trigger.
 * Readers ask for rows of transactions that were not finished when they last looked (pg_snapshot_xmin), which,
 * unlike a sequence or a time, misses nothing that commits late.
 */
export const changedXid = customType<{ data: string }>({ dataType: () => "xid8" });
