import { type SQL, sql } from "drizzle-orm";
import { findSqlState } from "../../errors.ts";
import {
  dbForKeyReads,
  type Queryable,
  dbForUpdates,
  dbForWrites,
} from "../../postgres/open-postgres.ts";

/**
 * Runs raw SQL and returns its rows, which the two drivers wrap differently. The caller is
 * responsible for the row type.
 */
export async function queryRows<T>(q: Queryable, query: SQL): Promise<T[]> {
  const result: unknown = await q.execute(query);
  return (Array.isArray(result) ? result : (result as { rows: unknown[] }).rows) as T[];
}

/**
 * Runs a read that finds its few rows by key. It shares connections with authentication, so it
 * must not lock rows, wait for locks or return much (I15). Its plan is cached: see `dbForKeyReads`.
 */
export function readByKey<T>(q: Queryable, query: SQL): Promise<T[]> {
  return queryRows(dbForKeyReads(q), query);
}

/**
 * Updates one row by key. Returns "locked" if another transaction holds the row for 50 ms. Use it
 * for repeated reports. In a transaction it waits for the row.
 */
export async function updateUnlessLocked<T>(q: Queryable, query: SQL): Promise<T[] | "locked"> {
  try {
    return await queryRows<T>(dbForUpdates(q), query);
  } catch (error) {
    if (isLockTimeout(error)) return "locked";
    throw error;
  }
}

/**
 * Runs a single statement that writes and may wait for locks. It uses a connection exclusively,
 * like a transaction.
 */
export function runWrite<T>(q: Queryable, query: SQL): Promise<T[]> {
  return queryRows(dbForWrites(q), query);
}

const LOCK_NOT_AVAILABLE = "55P03";

/** Whether a statement failed because it waited longer than its `lock_timeout`. */
export function isLockTimeout(error: unknown): boolean {
  return findSqlState(error) === LOCK_NOT_AVAILABLE;
}

/**
 * A true condition that makes the commit of a single statement asynchronous. A crash of Postgres
 * may lose the statements of the last second, so use it only for repeated reports.
 */
export const asyncCommit = sql`set_config('synchronous_commit', 'off', true) is not null`;

/**
 * A true condition that makes Postgres use generic plans until the transaction ends. Put it into
 * the part of a statement that is executed first. Postgres checks foreign keys and fires triggers
 * row by row after it. With custom plans it plans each check, which costs more than the check.
 */
export const genericPlansFromHere = sql`(select set_config('plan_cache_mode', 'force_generic_plan', true)) is not null`;

/** A time by the clock of Postgres (I16). Null for null. */
export function secondsFromNow(seconds: number | null): SQL<Date> {
  return sql`now() + make_interval(secs => ${seconds}::float8)`;
}

/** A time by the clock of Postgres (I16). */
export function secondsAgo(seconds: number): SQL<Date> {
  return sql`now() - make_interval(secs => ${seconds}::float8)`;
}

/** Converts a timestamp of raw SQL, a text or a Date, to ISO 8601 in UTC. */
export function isoTime(value: string | Date): string {
  return new Date(value).toISOString();
}

export function isoTimeOrNull(value: string | Date | null): string | null {
  return value === null ? null : isoTime(value);
}

/**
 * The right side of `id = ${anyOf(ids)}`. Postgres looks up an array in the index, whatever the
 * statistics are. With a joined list it read the whole of a recently filled table. Most lists have
 * one id, for which there is only one plan.
 */
export function anyOf(ids: readonly string[]): SQL {
  const [only, ...others] = ids;
  if (only !== undefined && others.length === 0) return sql`${only}`;
  return sql`any (array(select value from json_array_elements_text(${JSON.stringify(ids)}::json)))`;
}
