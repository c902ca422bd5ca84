import { sql } from "drizzle-orm";
import { expect, test } from "vitest";
import { FleetCache } from "../../../src/control/placement/fleet-cache.ts";
import { createPlacer } from "../../../src/control/placement/place-pending-sets.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { tryLockPlacement } from "../../../src/db/queries/placement/placements.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { withTx } from "../../../src/db/transaction.ts";
import { type FleetContext, serviceBody } from "../../support/fleet/fleet-context.ts";
import { fleetPerTest } from "../../support/fleet/fleet-per-test.ts";
import { waitForLockWait } from "../../support/fleet/lock-waits.ts";
import { rowsReadOf } from "../../support/fleet/rows-read.ts";
import { waitUntil } from "../../support/wait-until.ts";

/** The fleet in memory, and the lock of the placers. */

const start = fleetPerTest();
const newCache = () => new FleetCache({ reportAgeMaxMs: 120_000, lostHostsPercentMax: 30 });

/** Rows of sets that had a host once. The retention has not purged them yet. */
async function insertDeletedSets(f: FleetContext, count: number): Promise<void> {
  await f.ctx.db.execute(
    sql`insert into sets (id, tenant_id, service_id, revision, priority, state, desired, cpu_millis, memory_bytes,
          volume_bytes, rootfs_bytes, deleted_at, changed_xid)
        select 'set_old' || n, s.tenant_id, s.service_id, s.revision, 0, 'stopped', 'deleted', 1, 1, 0, 1, now(), '3'
        from generate_series(1, ${count}) n, (select * from sets limit 1) s`,
  );
}

test("the load of the fleet reads the sets on hosts, and no deleted set", async () => {
  const f = await start();
  const hostId = await f.enroll("h1");
  await createService(f.ctx, f.tenantId, serviceBody("web", { replicas: 3 }));
  await f.placer.placeSets();
  await insertDeletedSets(f, 2_000);
  await withTx(f.ctx.db, async (tx) => {
    // As in a placement: with a generic plan Postgres cannot drop a condition that is always true.
    await tx.execute(sql`set local plan_cache_mode = force_generic_plan`);
    const cache = newCache();
    const { fleet } = await cache.refresh(tx);
    expect(fleet.setCount).toBe(3);
    expect(cache.hostName(hostId)).toBe("h1");
    expect(await rowsReadOf(tx, "sets")).toBeLessThan(20);
  });
});

test("the load of more hosts than one chunk misses no host and no set", async () => {
  const f = await start();
  for (let n = 0; n < 5; n++) await f.enroll(`h${n}`);
  await createService(f.ctx, f.tenantId, serviceBody("web", { replicas: 9 }));
  await f.placer.placeSets();
  const cache = new FleetCache({
    reportAgeMaxMs: 120_000,
    lostHostsPercentMax: 30,
    hostsPerChunk: 2,
  });
  await cache.load(f.ctx.db);
  const { fleet } = await withTx(f.ctx.db, (tx) => cache.refresh(tx));
  expect(fleet.hostCount).toBe(5);
  expect(fleet.setCount).toBe(9);
});

test("a placer loads the fleet while another placer has the lock, and waits without a blocked statement", async () => {
  const f = await start();
  await f.enroll("h1");
  await createService(f.ctx, f.tenantId, serviceBody("web"));
  const placer = createPlacer(f.secondContext());
  let run: Promise<unknown> | undefined;
  await withTx(f.ctx.db, async (tx) => {
    expect(await tryLockPlacement(tx)).toBe(true);
    run = placer.placeSets();
    await waitUntil("the second placer tries to take the lock", async () => {
      const tries = await queryRows(
        f.ctx.db,
        sql`select 1 from pg_stat_activity where datname = current_database() and query like '%pg_try_advisory_xact_lock%'
          and pid <> pg_backend_pid() and state <> 'active'`,
      );
      return tries.length > 1 ? true : undefined;
    });
    const blocked = sql`select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;
    expect(await queryRows(f.ctx.db, blocked)).toEqual([]);
  });
  expect(await run).toMatchObject({ placed: 1, rejected: 0 });
});

test("an error of a placement does not drop the fleet", async () => {
  const f = await start();
  await f.enroll("h1");
  await createService(f.ctx, f.tenantId, serviceBody("first"));
  await f.placer.placeSets();
  await createService(f.ctx, f.tenantId, serviceBody("second"));
  await f.ctx.db.execute(sql`alter table placements rename to placements_gone`);
  await expect(f.placer.placeSets()).rejects.toThrow();
  await f.ctx.db.execute(sql`alter table placements_gone rename to placements`);
  // A load finds this change, and the set is rejected. A refresh does not, because nothing stamps
  // the row: the set is planned, and conflicts with the locked row.
  await f.ctx.db.execute(sql`alter table hosts disable trigger hosts_stamp_changed_xid`);
  await f.ctx.db.execute(sql`update hosts set cordoned = true, changed_xid = '3'`);
  const outcome = await f.placer.placeSets();
  expect(outcome).toMatchObject({ placed: 0, rejected: 0 });
  expect(outcome.conflicts).toBeGreaterThan(0);
});

test("between placements the fleet is refreshed in the background", async () => {
  const f = await start();
  const hostId = await f.enroll("h1");
  const cache = newCache();
  await cache.refreshInBackground(f.ctx.db);
  await f.enroll("h2");
  await f.ctx.db.execute(sql`update hosts set reported_at = now()`);
  await cache.refreshInBackground(f.ctx.db);
  const [host] = await queryRows<{ version: string }>(
    f.ctx.db,
    sql`select changed_xid::text as version from hosts where id = ${hostId}`,
  );
  expect(cache.hostVersion(hostId)).toBe(host?.version);
});

test("a placer whose fleet is refreshed in the background places without a load", async () => {
  const f = await start();
  await f.enroll("h1");
  await f.placer.refreshFleet();
  // A load finds this change, and the set is rejected. A refresh does not, because nothing stamps
  // the row: the set is planned, and conflicts with the locked row.
  await f.ctx.db.execute(sql`alter table hosts disable trigger hosts_stamp_changed_xid`);
  await f.ctx.db.execute(sql`update hosts set cordoned = true, changed_xid = '3'`);
  await createService(f.ctx, f.tenantId, serviceBody("web"));
  const outcome = await f.placer.placeSets();
  expect(outcome).toMatchObject({ placed: 0, rejected: 0 });
  expect(outcome.conflicts).toBeGreaterThan(0);
});

test("a batch that hangs is reported, so that its process ends", async () => {
  const f = await start();
  await f.enroll("h1");
  await createService(f.ctx, f.tenantId, serviceBody("web"));
  let reports = 0;
  const placer = createPlacer(f.secondContext(), { onHung: () => reports++, batchMsMax: 50 });
  let run: Promise<unknown> | undefined;
  await withTx(f.ctx.db, async (tx) => {
    await tx.execute(sql`select 1 from hosts for update`);
    run = placer.placeSets();
    await waitForLockWait(f.ctx.db, "the booking waits for the host");
    await waitUntil("the placer reports the batch", async () => (reports > 0 ? true : undefined));
  });
  expect(await run).toMatchObject({ placed: 1 });
  expect(reports).toBe(1);
});
