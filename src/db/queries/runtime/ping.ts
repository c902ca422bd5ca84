import { sql } from "drizzle-orm";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { toAppError } from "../../errors.ts";
import { readByKey } from "./query.ts";

/**
 * Throws dependency-unavailable if the database does not respond. It shares connections with
 * authentication: lists of tenants that fill their own pool do not make a process unready.
 */
export async function pingDatabase(q: Queryable): Promise<void> {
  try {
    await readByKey(q, sql`select 1`);
  } catch (error) {
    throw toAppError(error);
  }
}
