import { sql } from "drizzle-orm";
import postgres from "postgres";
import { afterAll, beforeAll, expect, test } from "vitest";
import { FleetCache } from "../../../src/control/placement/fleet-cache.ts";
import { migrate } from "../../../src/db/migrate.ts";
import { type DbHandle, openPostgres } from "../../../src/db/postgres/open-postgres.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { withTx } from "../../../src/db/transaction.ts";
import { createFleetContext, type FleetContext } from "../../support/fleet/fleet-context.ts";
import { type PostgresServer, startPostgres } from "../../support/servers/postgres-server.ts";

/** The fleet in memory after a failover to a server that lacks the last commits. */

let fleet: FleetContext;
let replica: PostgresServer;
let handle: DbHandle;

beforeAll(async () => {
  replica = await startPostgres();
  await migrate(replica.url);
  handle = openPostgres({
    databaseUrl: replica.url,
    connectionsMax: 4,
    statementTimeoutMs: 20_000,
  });
  fleet = await createFleetContext();
  await fleet.enroll("h1");
}, 300_000);
afterAll(async () => {
  await fleet.close();
  await handle.close();
  await replica.stop();
});

const xmin = sql`select pg_snapshot_xmin(pg_current_snapshot())::text::int as xmin`;
const readXmin = async (db: FleetContext["ctx"]["db"]) =>
  (await queryRows<{ xmin: number }>(db, xmin))[0]?.xmin ?? 0;

/** Uses transaction ids of the server of the fleet, or of the replica. */
async function useTransactionIds(server: "fleet" | "replica", count: number): Promise<void> {
  const url = new URL(replica.url);
  if (server === "fleet") {
    const [row] = await queryRows<{ name: string; port: number }>(
      fleet.ctx.db,
      sql`select current_database() as name, inet_server_port() as port`,
    );
    url.port = String(row?.port);
    url.pathname = `/${row?.name}`;
  }
  const client = postgres(url.href, { max: 1 });
  await client.unsafe(`do $$ begin for n in 1..${count} loop
    perform pg_current_xact_id(); commit; end loop; end $$`);
  await client.end();
}

for (const { how, newer, refresh } of [
  {
    how: "a placement",
    newer: "fleet",
    refresh: async (cache: FleetCache) => void (await withTx(handle.db, (tx) => cache.refresh(tx))),
  },
  {
    how: "the background",
    newer: "fleet",
    refresh: async (cache: FleetCache) => {
      await cache.refreshInBackground(handle.db); // finds the failover
      await cache.refreshInBackground(handle.db);
    },
  },
  {
    how: "a placement with newer transaction ids",
    newer: "replica",
    refresh: async (cache: FleetCache) => void (await withTx(handle.db, (tx) => cache.refresh(tx))),
  },
] as const)
  test(`a refresh by ${how} loads the fleet again after a failover that lost changes`, async () => {
    const cache = new FleetCache({ reportAgeMaxMs: 120_000, lostHostsPercentMax: 30 });
    const { fleet: before } = await withTx(fleet.ctx.db, (tx) => cache.refresh(tx));
    expect(before.hostCount).toBe(1);
    const ids = { fleet: await readXmin(fleet.ctx.db), replica: await readXmin(handle.db) };
    const missing = Math.abs(ids.fleet - ids.replica) + 1;
    if (ids.fleet > ids.replica !== (newer === "fleet")) await useTransactionIds(newer, missing);
    await refresh(cache);
    const { fleet: after } = await withTx(handle.db, (tx) => cache.refresh(tx));
    expect(after.hostCount).toBe(0);
  });
