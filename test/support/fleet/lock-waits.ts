import { sql } from "drizzle-orm";
import type { Db } from "../../../src/db/postgres/open-postgres.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { waitUntil } from "../wait-until.ts";

/**
 * Waits until a statement waits for a lock. It considers this database only, because other tests
 * use the same server.
 */
export async function waitForLockWait(db: Db, what: string): Promise<void> {
  const waiting = sql`select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;
  await waitUntil(what, async () => ((await queryRows(db, waiting)).length > 0 ? true : undefined));
}
