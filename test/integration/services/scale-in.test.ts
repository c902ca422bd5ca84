import { sql } from "drizzle-orm";
import { expect, test } from "vitest";
import { drainHost } from "../../../src/control/hosts/drain-host.ts";
import { createMover } from "../../../src/control/operations/move-sets.ts";
import {
  reconcileService,
  SETS_REMOVED_MAX,
} from "../../../src/control/replicas/reconcile-replicas.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { controlSet } from "../../../src/control/sets/control-set.ts";
import { getService } from "../../../src/control/services/get-service.ts";
import { scaleService } from "../../../src/control/services/scale-service.ts";
import { lockHosts } from "../../../src/db/queries/sets/write-sets.ts";
import { withTx } from "../../../src/db/transaction.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { assert } from "../../../src/lib/assert.ts";
import { serviceBody, smallHost } from "../../support/fleet/fleet-context.ts";
import { fleetPerTest } from "../../support/fleet/fleet-per-test.ts";
import { listLiveSets, obeyOrders } from "../../support/fleet/live-sets.ts";

const start = fleetPerTest();

test("a large scale-in removes a bounded number of sets a transaction, and each round enqueues the next", async () => {
  const f = await start();
  const allocatable = { ...smallHost, cpuMillis: 10_000_000, memoryBytes: 2 ** 44 };
  const hostId = await f.enroll("h1", { allocatable: { ...allocatable, rootfsBytes: 2 ** 44 } });
  const replicas = 2 * SETS_REMOVED_MAX + 60;
  const { service } = await createService(f.ctx, f.tenantId, serviceBody("web", { replicas }));
  await f.placer.placeSets();
  await obeyOrders(f, hostId);
  f.enqueued.length = 0;
  const rounds: number[] = [];
  /** The removals since the last call, and whether a job removes more. */
  const takeRound = async () => {
    const [row] = await queryRows<{ removed: number }>(
      f.ctx.db,
      sql`select count(*)::int as removed from sets where desired = 'deleted'`,
    );
    rounds.push((row?.removed ?? 0) - rounds.reduce((sum, removed) => sum + removed, 0));
    return f.enqueued.splice(0).find(({ name }) => name === "reconcile-service");
  };
  await scaleService(f.ctx, f.tenantId, "web", { replicas: 10 }, undefined);
  const jobIds = new Set<string>();
  for (let job = await takeRound(); job !== undefined; job = await takeRound()) {
    assert(job.name === "reconcile-service", "only this job removes sets");
    expect(jobIds).not.toContain(job.jobId);
    jobIds.add(job.jobId);
    await reconcileService(f.ctx, service.id, service.generation + 1);
  }
  expect(rounds).toEqual([SETS_REMOVED_MAX, SETS_REMOVED_MAX, 50]);
  await obeyOrders(f, hostId);
  expect(await getService(f.ctx, f.tenantId, "web")).toMatchObject({
    settled: true,
    counts: { running: 10 },
  });
});

test("a scale-in leaves the sets of a host that another transaction has locked to the next round", async () => {
  const f = await start();
  const hosts = [await f.enroll("h1", { zone: "a" }), await f.enroll("h2", { zone: "b" })];
  const spread = [{ by: "zone" as const, maxSkew: 1 }];
  const body = serviceBody("web", { replicas: 6, placement: { spread } });
  const { service } = await createService(f.ctx, f.tenantId, body);
  await f.placer.placeSets();
  for (const hostId of hosts) await obeyOrders(f, hostId);
  await withTx(f.secondContext().db, async (other) => {
    await lockHosts(other, hosts.slice(0, 1));
    await scaleService(f.ctx, f.tenantId, "web", { replicas: 0 }, undefined);
  });
  const removed = await countRemoved(f);
  expect(removed.map(({ hostId }) => hostId)).toEqual([hosts[1], hosts[1], hosts[1]]);
  await reconcileService(f.ctx, service.id, service.generation + 1);
  expect(await countRemoved(f)).toHaveLength(6);
});

test("a scale-in removes a set only together with its replacement", async () => {
  const f = await start();
  const from = await f.enroll("h1");
  const { service } = await createService(f.ctx, f.tenantId, serviceBody("web", { replicas: 1 }));
  await f.placer.placeSets();
  await obeyOrders(f, from);
  const to = await f.enroll("h2");
  await drainHost(f.ctx, from);
  await createMover(f.ctx).moveSets();
  await f.placer.placeSets();
  await withTx(f.secondContext().db, async (other) => {
    await lockHosts(other, [to]);
    await scaleService(f.ctx, f.tenantId, "web", { replicas: 0 }, undefined);
  });
  expect(await countRemoved(f)).toEqual([]);
  await reconcileService(f.ctx, service.id, service.generation + 1);
  expect((await countRemoved(f)).map(({ hostId }) => hostId).sort()).toEqual([from, to].sort());
});

/** Creates the service "web" of 4 sets, ready for `age`, with a minReadySeconds of an hour. */
async function runFour(age: string) {
  const f = await start();
  const hostId = await f.enroll("h1");
  const disruption = { minReadySeconds: 3_600 };
  await createService(f.ctx, f.tenantId, serviceBody("web", { replicas: 4, disruption }));
  await f.placer.placeSets();
  await obeyOrders(f, hostId);
  await f.ctx.db.execute(sql`update sets set ready_since = now() - ${age}::interval`);
  return { f, hostId };
}

const countRemoved = async (f: Awaited<ReturnType<typeof start>>) =>
  queryRows<{ id: string; hostId: string }>(
    f.ctx.db,
    sql`select id, host_id as "hostId" from sets where desired = 'deleted' order by id`,
  );

test("a scale-in does not wait for minReadySeconds of sets that are not available anyway", async () => {
  const { f } = await runFour("1 minute");
  await scaleService(f.ctx, f.tenantId, "web", { replicas: 2 }, undefined);
  expect(await countRemoved(f)).toHaveLength(2);
  const removed = await queryRows(
    f.ctx.db,
    sql`select data->'removed' as removed from events where kind = 'service-scaled' and data->>'cause' = 'removal'`,
  );
  expect(removed).toEqual([{ removed: 2 }]);
});

test("a scale-in removes sets that are not available in place of those that the budget protects", async () => {
  const { f, hostId } = await runFour("1 minute");
  // The only available set is on a draining host, so it is the first choice of the scale-in.
  const h2 = await f.enroll("h2");
  const [first] = await queryRows<{ id: string }>(f.ctx.db, sql`select id from sets order by id`);
  await f.ctx.db.execute(
    sql`update sets set host_id = ${h2}, ready_since = now() - interval '1 day' where id = ${first?.id}`,
  );
  await f.ctx.db.execute(sql`update hosts set cordoned = true where id = ${h2}`);
  await scaleService(f.ctx, f.tenantId, "web", { replicas: 2 }, undefined);
  expect((await countRemoved(f)).map((set) => set.hostId)).toEqual([hostId, hostId]);
});

/** Makes the service "web" of 10 ready sets, and stops the 5 oldest as a user does. */
async function stopFiveOfTen(more: { volume?: { size: string; mountPath: string } } = {}) {
  const f = await start();
  const gib = 2 ** 30;
  const allocatable = { ...smallHost, cpuMillis: 80_000, memoryBytes: 80 * gib };
  const hostId = await f.enroll("h1", { allocatable: { ...allocatable, volumeBytes: 100 * gib } });
  const template = {
    cpu: 1,
    memory: "1Gi",
    rootfs: "1Gi",
    ...more,
    containers: [{ index: 0, name: "app", image: "menu:42", options: { cpu: 100, memory: 100 } }],
  };
  const body = serviceBody("web", { replicas: 10, template });
  const { service } = await createService(f.ctx, f.tenantId, body);
  await f.placer.placeSets();
  await obeyOrders(f, hostId);
  const oldest = (await listLiveSets(f)).slice(0, 5).map(({ id }) => id);
  for (const id of oldest) await controlSet(f.ctx, f.tenantId, id, "stop");
  await obeyOrders(f, hostId);
  return { f, service, oldest };
}

test("a scale-in removes sets that a user stopped, and none that serves", async () => {
  const { f, service } = await stopFiveOfTen();
  await scaleService(f.ctx, f.tenantId, "web", { replicas: 5 }, undefined);
  await reconcileService(f.ctx, service.id);
  const left = await listLiveSets(f);
  expect(left.filter(({ desired }) => desired !== "deleted").map(({ ready }) => ready)).toEqual(
    Array(5).fill(true),
  );
});

test("a scale-in keeps stopped sets with volume data only while the budget permits it", async () => {
  const { f, service, oldest } = await stopFiveOfTen({
    volume: { size: "1Gi", mountPath: "/data" },
  });
  await scaleService(f.ctx, f.tenantId, "web", { replicas: 5 }, undefined);
  await reconcileService(f.ctx, service.id);
  const left = (await listLiveSets(f)).filter(({ desired }) => desired !== "deleted");
  // The budget permits one set that does not serve.
  expect(left.filter(({ ready }) => ready)).toHaveLength(4);
  expect(left.filter(({ id }) => oldest.includes(id))).toHaveLength(1);
});
