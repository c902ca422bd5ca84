import { sql } from "drizzle-orm";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { toAppError } from "../../errors.ts";

/** Throws AppError dependency-unavailable when the database does not answer. */
export async function pingDatabase(q: Queryable): Promise<void> {
  try {
    await q.execute(sql`select 1`);
  } catch (error) {
    throw toAppError(error);
  }
}
