import { type SQL, sql } from "drizzle-orm";
import { keyedOf, type Queryable } from "../../postgres/open-postgres.ts";

/** Runs raw SQL and gives its rows; the two drivers wrap them differently. The caller vouches for the row type. */
export async function rowsOf<T>(q: Queryable, query: SQL): Promise<T[]> {
  const result: unknown = await q.execute(query);
  return (Array.isArray(result) ? result : (result as { rows: unknown[] }).rows) as T[];
}

/** The same for a statement that finds all of its rows by key, a few at most: its plan is kept, see `keyedOf`. */
export function rowsByKey<T>(q: Queryable, query: SQL): Promise<T[]> {
  return rowsOf(keyedOf(q), query);
}

/**
 * A condition that is always true, for a statement that is a transaction by itself: its commit is not waited for on disk. When Postgres
 * crashes it may be lost with the last second, so it is for what is said again by itself.
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
 * `id = ${anyOf(ids)}`. As an array it is looked up in the index whatever the statistics say; a list that is joined (`in (select …)`)
 * was compared with every row of a table that had just been filled. Most lists are of one, for which there is but one plan.
 */
export function anyOf(ids: readonly string[]): SQL {
  const [only, ...others] = ids;
  if (only !== undefined && others.length === 0) return sql`${only}`;
  return sql`any (array(select value from json_array_elements_text(${JSON.stringify(ids)}::json)))`;
}
