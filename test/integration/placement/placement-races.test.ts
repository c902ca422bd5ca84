import { type SQL, sql } from "drizzle-orm";
import { expect, test } from "vitest";
import { computeOverhead } from "../../../src/contracts/api/container-overhead.ts";
import { listDueSets } from "../../../src/db/queries/placement/due-sets.ts";
import { listChangedHosts } from "../../../src/db/queries/placement/fleet.ts";
import { commitPlacements } from "../../../src/db/queries/placement/placements.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { lockHosts } from "../../../src/db/queries/sets/write-sets.ts";
import { withTx } from "../../../src/db/transaction.ts";
import { assert } from "../../../src/lib/assert.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import type { PlaceOutcome } from "../../../src/control/placement/place-pending-sets.ts";
import { type FleetContext, serviceBody, smallHost } from "../../support/fleet/fleet-context.ts";
import { fleetPerTest } from "../../support/fleet/fleet-per-test.ts";
import { waitForLockWait } from "../../support/fleet/lock-waits.ts";

const start = fleetPerTest();

test("I2: a booking that the snapshot has not seen is respected at commit, on the locked row", async () => {
  const f = await start();
  const hostId = await f.enroll("h1");
  await createService(f.ctx, f.tenantId, serviceBody("first", { replicas: 1 }));
  await f.placer.placeSets();
  // An update without change tracking books the host: only the check on the locked row sees it.
  await f.ctx.db.execute(sql`alter table hosts disable trigger hosts_stamp_changed_xid`);
  await f.ctx.db.execute(
    sql`update hosts set allocated_cpu_millis = 4000, changed_xid = '3' where id = ${hostId}`,
  );
  await createService(f.ctx, f.tenantId, serviceBody("second", { replicas: 1 }));
  const outcome = await f.placer.placeSets();
  expect(outcome.placed).toBe(0);
  expect(outcome.conflicts).toBeGreaterThan(0);
});

/**
 * Changes the host, places a set with the previous snapshot, and commits the change during the
 * placement.
 */
async function placeAmidst(f: FleetContext, change: SQL) {
  let run: Promise<PlaceOutcome> | undefined;
  await withTx(f.ctx.db, async (tx) => {
    await tx.execute(sql`update hosts set ${change}`);
    run = f.placer.placeSets();
    await waitForLockWait(f.ctx.db, "the host's row is waited for");
  });
  return run;
}

test("I2: a host that changes while a set is planned for it is checked again", async () => {
  const f = await start();
  await f.enroll("h1");
  await createService(f.ctx, f.tenantId, serviceBody("web"));
  const outcome = await placeAmidst(f, sql`allocated_cpu_millis = allocatable_cpu_millis`);
  expect(outcome).toMatchObject({ placed: 0, conflicts: 1, rejected: 1 });
  expect(await queryRows(f.ctx.db, sql`select 1 from sets where host_id is not null`)).toEqual([]);
});

test("a host that changes during every plan still gets sets", async () => {
  const f = await start();
  await f.enroll("h1");
  await createService(f.ctx, f.tenantId, serviceBody("first"));
  await f.placer.placeSets();
  await f.ctx.db.execute(sql`alter table hosts disable trigger hosts_stamp_changed_xid`);
  await f.ctx.db.execute(sql`update hosts set changed_xid = '3'`);
  await createService(f.ctx, f.tenantId, serviceBody("second"));
  expect(await f.placer.placeSets()).toMatchObject({ placed: 1, conflicts: 1, batches: 2 });
});

test("a change that the planner does not read delays no placement, and the generation is the newest", async () => {
  const f = await start();
  await f.enroll("h1");
  await createService(f.ctx, f.tenantId, serviceBody("web"));
  const outcome = await placeAmidst(f, sql`generation = 41, lease_expires_at = now()`);
  expect(outcome).toMatchObject({ placed: 1, conflicts: 0, batches: 1 });
  const [generations] = await queryRows(
    f.ctx.db,
    sql`select hosts.generation::int as host, host_generation::int as set from hosts, sets`,
  );
  expect(generations).toEqual({ host: 42, set: 42 });
});

/** The test covers every column, because the planner may later read more of them. */
test("each change of a host that the planner can see changes the version of its row", async () => {
  const f = await start();
  await f.enroll("h1");
  const { db } = f.ctx;
  const changed: Record<string, string> = {
    boolean: "not %",
    bigint: "coalesce(%, 0) + 1",
    integer: "coalesce(%, 0) + 1",
    "timestamp with time zone": "coalesce(%, now()) + interval '1 s'",
    jsonb: `'[{"key": "new"}]'`,
    text: "case '%' when 'state' then 'lost' when 'pool' then % else % || '2' end",
  };
  const columns = await queryRows<{ name: string; type: string }>(
    db,
    sql`select column_name as name, data_type as type from information_schema.columns
        where table_schema = 'public' and table_name = 'hosts' and column_name not in ('id', 'name', 'changed_xid')`,
  );
  const seen: string[] = [];
  for (const { name, type } of columns) {
    const [before] = await listChangedHosts(db, "0");
    await db.execute(
      sql.raw(`update hosts set "${name}" = ${changed[type]?.replaceAll("%", name)}`),
    );
    const [after] = await listChangedHosts(db, "0");
    const isSeen =
      JSON.stringify({ ...before, version: 0 }) !== JSON.stringify({ ...after, version: 0 });
    if (isSeen) seen.push(name);
    if (isSeen) expect(after?.version, name).not.toBe(before?.version);
  }
  expect(seen).toEqual(expect.arrayContaining(["state", "labels", "used_cpu_millis", "rack"]));
});

test("I2: after a usage report during a booking, the booking still counts as unreported", async () => {
  const f = await start();
  const hostId = await f.enroll("h1");
  await createService(f.ctx, f.tenantId, serviceBody("web"));
  const [set] = (await listDueSets(f.ctx.db, 1)).sets;
  assert(set, "the set is pending");
  const usage = {
    used: smallHost,
    allocatable: smallHost,
    reclaimableVolumeBytes: 0,
    trashedVolumeBytes: 0,
    volumeReason: null,
    disk: null,
    setMemoryBytes: {},
  };
  let report: Promise<unknown> | undefined;
  await withTx(f.ctx.db, async (tx) => {
    await lockHosts(tx, [hostId]);
    // With a list of images it waits for the row, however long the booking takes.
    report = f.sync(hostId, { usage, images: [] });
    await waitForLockWait(f.ctx.db, "the host's row is waited for");
    const overhead = computeOverhead([null]);
    const placement = {
      placementId: "plc_1",
      setId: set.id,
      hostId,
      score: 0,
      because: {},
      overhead,
    };
    await commitPlacements(tx, [{ ...placement, generation: set.generation }], 1);
  });
  await report;
  const [host] = await queryRows(
    f.ctx.db,
    sql`select unreported_cpu_millis::int as unreported, used_cpu_millis::int as used from hosts`,
  );
  expect(host).toEqual({ unreported: set.cpuMillis, used: smallHost.cpuMillis });
});

test("a placement locks hosts before sets, so that it does not deadlock with a scale-in", async () => {
  const f = await start();
  await f.enroll("h1");
  await createService(f.ctx, f.tenantId, serviceBody("web", { replicas: 5 }));
  await f.placer.placeSets();
  const [waiting] = await queryRows<{ id: string }>(
    f.ctx.db,
    sql`update sets set plan_after = now() where state = 'pending' returning id`,
  );
  assert(waiting, "a set waits for a host");
  await f.enroll("h2", { allocatable: { ...smallHost, memoryBytes: 2 ** 29 } });
  await createService(f.ctx, f.tenantId, smallService("tiny"));
  let run: Promise<PlaceOutcome> | undefined;
  await withTx(
    f.ctx.db,
    async (tx) => {
      await tx.execute(sql`select 1 from hosts for update`);
      run = f.placer.placeSets();
      await waitForLockWait(f.ctx.db, "the placement waits for a host");
      // A scale-in locks its sets now. If the placement locked sets first, the two transactions
      // would deadlock.
      await tx.execute(sql`select 1 from sets where id = ${waiting.id} for update nowait`);
    },
    { retriesMax: 0 },
  );
  expect(await run).toMatchObject({ placed: 1, rejected: 1, conflicts: 0 });
});

/** A service whose set fits beside the others. */
function smallService(name: string) {
  const { template, ...body } = serviceBody(name);
  return { ...body, template: { ...template, cpuMillis: 100, memoryBytes: 2 ** 28 } };
}
