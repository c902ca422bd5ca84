import { type SQL, sql } from "drizzle-orm";
import { sqlStateOf } from "../../errors.ts";
import { keyReadsOf, type Queryable, updatesOf, writesOf } from "../../postgres/open-postgres.ts";

/**
 * Runs raw SQL and gives its rows; the two drivers wrap them differently. The caller vouches for
 * the row type.
 */
export async function rowsOf<T>(q: Queryable, query: SQL): Promise<T[]> {
  const result: unknown = await q.execute(query);
  return (Array.isArray(result) ? result : (result as { rows: unknown[] }).rows) as T[];
}

/**
 * Runs a read that finds its few rows by key. It shares connections with authentication, so it
 * must not lock rows, wait for locks or return much (I15). Its plan is cached: see `keyReadsOf`.
 */
export function rowsByKey<T>(q: Queryable, query: SQL): Promise<T[]> {
  return rowsOf(keyReadsOf(q), query);
}

/**
 * Updates one row by key, unless another transaction holds it: gives "locked" after 50 ms then.
 * For reports that are repeated anyway. In a transaction it waits for the row.
 */
export async function rowsUnlessLocked<T>(q: Queryable, query: SQL): Promise<T[] | "locked"> {
  try {
    return await rowsOf<T>(updatesOf(q), query);
  } catch (error) {
    if (sqlStateOf(error) === LOCK_NOT_AVAILABLE) return "locked";
    throw error;
  }
}

/**
 * Runs a single statement that writes and may wait for locks. It has its connection to itself, as
 * a transaction has.
 */
export function rowsOfWrite<T>(q: Queryable, query: SQL): Promise<T[]> {
  return rowsOf(writesOf(q), query);
}

const LOCK_NOT_AVAILABLE = "55P03";

/**
 * A condition that is always true, for a statement outside of a transaction. Its commit does not
 * wait for the disk. A crash of Postgres may lose it with the last second: use it for repeated
 * reports.
 */
export const mayBeLost = sql`set_config('synchronous_commit', 'off', true) is not null`;

/** A timestamp as drivers give it in raw SQL (text or Date), as ISO 8601 in UTC. */
export function isoTime(value: string | Date): string {
  return new Date(value).toISOString();
}

export function isoTimeOrNull(value: string | Date | null): string | null {
  return value === null ? null : isoTime(value);
}

/**
 * The right side of `id = ${anyOf(ids)}`. Postgres looks an array up in the index, whatever the
 * statistics say. It compared a joined list with every row of a table that had just been filled.
 * Most lists have one id, for which there is but one plan.
 */
export function anyOf(ids: readonly string[]): SQL {
  const [only, ...others] = ids;
  if (only !== undefined && others.length === 0) return sql`${only}`;
  return sql`any (array(select value from json_array_elements_text(${JSON.stringify(ids)}::json)))`;
}
