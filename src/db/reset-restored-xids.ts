import { type SQL, sql } from "drizzle-orm";
import type { PostgresJsDatabase } from "drizzle-orm/postgres-js";

/** Rows per transaction, so that each one is short. */
const ROWS_PER_BATCH = 10_000;

/**
 * A row that pg_restore wrote has the transaction id of its previous server. No transaction that
 * the snapshot of a statement shows is at or above its xmax, so such a row is exact to find.
 */
const isOfFormerServer = (xid: SQL) => sql`${xid} >= pg_snapshot_xmax(pg_current_snapshot())`;

const now = sql`pg_current_xact_id()`;
const columns: readonly { table: SQL; xid: SQL; value: SQL }[] = [
  { table: sql`hosts`, xid: sql`changed_xid`, value: now },
  { table: sql`sets`, xid: sql`changed_xid`, value: now },
  { table: sql`events`, xid: sql`xid`, value: sql`'1'::xid8` },
];

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
  for (const column of columns) await resetColumn(db, column);
}

/**
 * Whether `resetRestoredXids` would find a row. False for a backup that was restored on a server
 * whose transaction ids are higher.
 */
export async function hasRestoredRows(db: PostgresJsDatabase): Promise<boolean> {
  const searches = columns.map(
    ({ table, xid }) => sql`exists (select 1 from ${table} where ${isOfFormerServer(xid)})`,
  );
  const rows = await db.execute(sql`select 1 where ${sql.join(searches, sql` or `)}`);
  return rows.length > 0;
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
