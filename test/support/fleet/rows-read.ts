import { sql } from "drizzle-orm";
import type { Queryable } from "../../../src/db/postgres/open-postgres.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";

/** Returns the number of rows of a table that this transaction has read so far. */
export async function rowsReadOf(tx: Queryable, table: string): Promise<number> {
  const [row] = await queryRows<{ rows: number }>(
    tx,
    sql`select (seq_tup_read + coalesce(idx_tup_fetch, 0))::float8 as rows
        from pg_stat_xact_user_tables where relname = ${table}`,
  );
  return row?.rows ?? 0;
}
