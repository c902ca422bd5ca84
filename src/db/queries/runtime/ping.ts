import { sql } from "drizzle-orm";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { toAppError } from "../../errors.ts";

/** Throws dependency-unavailable if the database does not respond. */
export async function pingDatabase(q: Queryable): Promise<void> {
  try {
    await q.execute(sql`select 1`);
  } catch (error) {
    throw toAppError(error);
  }
}
