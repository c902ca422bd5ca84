import { sql } from "drizzle-orm";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createService } from "../../../src/control/services/create-service.ts";
import { migrate } from "../../../src/db/migrate.ts";
import { readEventsAfter, readEventStreamLag } from "../../../src/db/queries/events/read-events.ts";
import {
  listChangedHosts,
  listChangedSets,
  readRefreshPosition,
} from "../../../src/db/queries/placement/fleet.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import {
  createFleetContext,
  type FleetContext,
  serviceBody,
} from "../../support/fleet/fleet-context.ts";

/**
 * A database after pg_restore on a new server. Its rows have transaction ids of the previous
 * server, which are far above those of the new one.
 */

let fleet: FleetContext;
let hostId: string;

const FORMER_XID = "500000000";
const noFilter = { service: undefined, set: undefined, host: undefined, kind: undefined };

beforeAll(async () => {
  fleet = await createFleetContext();
  hostId = await fleet.enroll("h1");
  await createService(fleet.ctx, fleet.tenantId, serviceBody("web", { replicas: 2 }));
  await fleet.placer.placeSets();
  await fleet.ctx.db.execute(sql`update hosts set changed_xid = ${FORMER_XID}::xid8`);
  await fleet.ctx.db.execute(sql`update sets set changed_xid = ${FORMER_XID}::xid8`);
  await fleet.ctx.db.execute(
    sql`update events set xid = ${FORMER_XID}::xid8, at = now() - interval '1 hour'`,
  );
}, 120_000);
afterAll(() => fleet.close());

async function countFutureRows(): Promise<number> {
  const future = sql`>= pg_snapshot_xmax(pg_current_snapshot())`;
  const rows = await queryRows<{ count: number }>(
    fleet.ctx.db,
    sql`select ((select count(*) from hosts where changed_xid ${future}) + (select count(*) from sets where changed_xid ${future})
          + (select count(*) from events where xid ${future}))::int as count`,
  );
  return rows[0]?.count ?? 0;
}

test("a refresh of the fleet reads changed rows only, and streams have no lag", async () => {
  const { db } = fleet.ctx;
  const { xmin } = await readRefreshPosition(db);
  expect(await listChangedHosts(db, xmin)).toEqual([]);
  expect(await listChangedSets(db, xmin)).toEqual([]);
  expect((await readEventStreamLag(db)).ageSeconds).toBe(0);
  await db.execute(sql`update hosts set cordoned = true`);
  expect((await listChangedHosts(db, xmin)).map(({ id }) => id)).toEqual([hostId]);
  await db.execute(sql`update hosts set changed_xid = ${FORMER_XID}::xid8`);
});

test("a migration gives restored rows transaction ids of this server, and changes nothing later", async () => {
  const { db } = fleet.ctx;
  expect(await countFutureRows()).toBeGreaterThan(4);
  const { position } = await readEventsAfter(db, null, noFilter, undefined, 10);
  await migrate(fleet.databaseUrl);
  expect(await countFutureRows()).toBe(0);
  // The restored events are before all positions of streams: no stream shows them again.
  expect((await readEventsAfter(db, null, noFilter, position, 10)).events).toEqual([]);
  const readXids = () =>
    queryRows(
      db,
      sql`select id, changed_xid::text as xid from sets union all select id, changed_xid::text from hosts
          union all select id::text, xid::text from events order by id`,
    );
  const before = await readXids();
  await migrate(fleet.databaseUrl);
  expect(await readXids()).toEqual(before);
});
