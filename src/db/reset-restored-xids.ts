import { type SQL, sql } from "drizzle-orm";
import type { PostgresJsDatabase } from "drizzle-orm/postgres-js";

/** Rows per transaction, so that each one is short. */
const ROWS_PER_BATCH = 10_000;

/**
 * A row that pg_restore wrote has the transaction id of its previous server. No transaction that
 * the snapshot of a statement shows is at or above its xmax, so such a row is exact to find.
 */
const isOfFormerServer = (xid: SQL) => sql`${xid} >= pg_snapshot_xmax(pg_current_snapshot())`;

/**
 * Changes the transaction ids of restored rows to ids of this server. Otherwise streams would show
 * the events again, and each planner would read the rows again, once this server reaches the ids.
 * On any other database it finds no row: each search is one probe of an index. It is safe to repeat
 * and to interrupt.
 *
 * Hosts and sets count as changed now. Events are before all positions of streams, in the order of
 * their ids.
 */
export async function resetRestoredXids(db: PostgresJsDatabase): Promise<void> {
  const now = sql`pg_current_xact_id()`;
  await resetColumn(db, { table: sql`hosts`, xid: sql`changed_xid`, value: now });
  await resetColumn(db, { table: sql`sets`, xid: sql`changed_xid`, value: now });
  await resetColumn(db, { table: sql`events`, xid: sql`xid`, value: sql`'1'::xid8` });
}

async function resetColumn(
  db: PostgresJsDatabase,
  { table, xid, value }: { table: SQL; xid: SQL; value: SQL },
): Promise<void> {
  for (let count = ROWS_PER_BATCH; count === ROWS_PER_BATCH;) {
    const rows = await db.execute(
      sql`update ${table} set ${xid} = ${value} where id in (
            select id from ${table} where ${isOfFormerServer(xid)} order by ${xid} limit ${ROWS_PER_BATCH})
          returning 1`,
    );
    count = rows.length;
  }
}
