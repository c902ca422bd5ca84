import { sql } from "drizzle-orm";
import { expect, test } from "vitest";
import { allGrants } from "../../../src/contracts/api/tenancy.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { createTenant } from "../../../src/control/tenancy/create-tenant.ts";
import { listDueSets } from "../../../src/db/queries/placement/due-sets.ts";
import { withTx } from "../../../src/db/transaction.ts";
import { type FleetContext, serviceBody } from "../../support/fleet/fleet-context.ts";
import { fleetPerTest } from "../../support/fleet/fleet-per-test.ts";
import { rowsReadOf } from "../../support/fleet/rows-read.ts";
import { tenantBody } from "../../support/fleet/tenant-body.ts";

/** The sets that a placement reads. */

const start = fleetPerTest();

async function tenantOf(f: FleetContext, name: string): Promise<string> {
  const quota = { setsMax: 1_000, cpuMillisMax: 1e9, memoryBytesMax: 2 ** 50 };
  return (await createTenant(f.ctx, tenantBody(name, quota, allGrants))).id;
}

async function createSets(f: FleetContext, tenantId: string, name: string, more: object) {
  return (await createService(f.ctx, tenantId, serviceBody(name, more))).service.id;
}

test("each tenant with due sets gets an equal share of a batch", async () => {
  const f = await start();
  const crowd = await createSets(f, f.tenantId, "crowd", { replicas: 300 });
  const second = await createSets(f, await tenantOf(f, "second"), "web", { replicas: 1 });
  const third = await createSets(f, await tenantOf(f, "third"), "web", { replicas: 40 });
  const { sets, hasMore } = await listDueSets(f.ctx.db, 30);
  const setsOf = (id: string) => sets.filter(({ serviceId }) => serviceId === id).length;
  expect([crowd, second, third].map(setsOf)).toEqual([10, 1, 10]);
  expect(hasMore).toBe(true);
});

test("a higher priority precedes the shares of lower ones", async () => {
  const f = await start();
  const low = await createSets(f, await tenantOf(f, "low"), "web", { replicas: 5 });
  const high = await createSets(f, f.tenantId, "web", { replicas: 20, priority: 200 });
  const first = await listDueSets(f.ctx.db, 8);
  expect(new Set(first.sets.map(({ serviceId }) => serviceId))).toEqual(new Set([high]));
  const all = await listDueSets(f.ctx.db, 100);
  expect(all.sets.slice(20).map(({ serviceId }) => serviceId)).toEqual(Array(5).fill(low));
  expect(all.specs.map(({ serviceId }) => serviceId).sort()).toEqual([high, low].sort());
  expect(all.hasMore).toBe(false);
});

test("the longest due sets of a tenant come first", async () => {
  const f = await start();
  await createSets(f, f.tenantId, "new", { replicas: 5 });
  const old = await createSets(f, f.tenantId, "old", { replicas: 3 });
  await f.ctx.db.execute(
    sql`update sets set plan_after = now() - interval '1 minute' where service_id = ${old}`,
  );
  const { sets } = await listDueSets(f.ctx.db, 4);
  expect(sets.slice(0, 3).map(({ serviceId }) => serviceId)).toEqual([old, old, old]);
});

test("a new tenant gets its turn behind tenants whose older sets would fill the batch", async () => {
  const f = await start();
  for (let count = 0; count < 20; count++)
    await createSets(f, await tenantOf(f, `crowd-${count}`), "web", { replicas: 50 });
  await f.ctx.db.execute(sql`update sets set plan_after = now() - interval '1 minute'`);
  const late = await createSets(f, f.tenantId, "late", { replicas: 1 });
  const { sets, hasMore } = await listDueSets(f.ctx.db, 100);
  expect(sets.map(({ serviceId }) => serviceId)).toContain(late);
  expect(sets).toHaveLength(100);
  expect(hasMore).toBe(true);
});

test("each tenant gets a set when a batch is smaller than the number of tenants", async () => {
  const f = await start();
  const services = [await createSets(f, f.tenantId, "web", { replicas: 3 })];
  for (const name of ["second", "third"])
    services.push(await createSets(f, await tenantOf(f, name), "web", { replicas: 3 }));
  await createSets(f, f.tenantId, "low", { replicas: 1, priority: 50 });
  const { sets, hasMore } = await listDueSets(f.ctx.db, 1);
  expect(sets.map(({ serviceId }) => serviceId).sort()).toEqual(services.sort());
  expect(hasMore).toBe(true);
});

test("a placement does not read the sets that wait for their retry", async () => {
  const f = await start();
  for (const name of ["waiting-1", "waiting-2"])
    await createSets(f, await tenantOf(f, name), "crowd", { replicas: 1_000 });
  await f.ctx.db.execute(sql`update sets set plan_after = now() + interval '1 hour'`);
  const due = await createSets(f, f.tenantId, "web", {});
  await withTx(f.ctx.db, async (tx) => {
    const { sets } = await listDueSets(tx, 4_000);
    expect(sets.map(({ serviceId }) => serviceId)).toEqual([due]);
    expect(await rowsReadOf(tx, "sets")).toBeLessThan(50);
  });
});

test("a placement does not read the sets of priorities that its batch does not reach", async () => {
  const f = await start();
  const services: string[] = [];
  for (let priority = 0; priority < 30; priority++)
    services.push(await createSets(f, f.tenantId, `web-${priority}`, { replicas: 100, priority }));
  await withTx(f.ctx.db, async (tx) => {
    const { sets, hasMore } = await listDueSets(tx, 50);
    expect(new Set(sets.map(({ serviceId }) => serviceId))).toEqual(new Set(services.slice(-1)));
    expect(hasMore).toBe(true);
    expect(await rowsReadOf(tx, "sets")).toBeLessThan(1_500); // of 3,000
  });
});

/** Adds tenants with a set each that is not due. Its priority is above that of the service. */
async function addWaitingTenants(f: FleetContext, count: number, serviceId: string) {
  await f.ctx.db.execute(
    sql`insert into tenants select (jsonb_populate_record(t, jsonb_build_object('id', 'waiting-' || n, 'name', 'waiting-' || n))).*
        from tenants t, generate_series(1, ${count}::int) n where t.id = ${f.tenantId}`,
  );
  await f.ctx.db.execute(
    sql`insert into sets select (jsonb_populate_record(s, jsonb_build_object('id', 'set-' || t.id, 'tenant_id', t.id,
          'priority', s.priority + 1, 'plan_after', now() + interval '1 hour'))).*
        from sets s, tenants t where s.id = (select min(id) from sets where service_id = ${serviceId}) and t.id like 'waiting-%'`,
  );
}

test("a due set is found behind any number of tenants whose sets are not due", async () => {
  const f = await start();
  const due = await createSets(f, f.tenantId, "web", {});
  await addWaitingTenants(f, 6_000, due);
  await withTx(f.ctx.db, async (tx) => {
    const { sets } = await listDueSets(tx, 4_000);
    expect(sets.map(({ serviceId }) => serviceId)).toEqual([due]);
    expect(await rowsReadOf(tx, "sets")).toBeLessThan(50);
  });
});

test("the due sets of services with spread do not read the removed sets of other services", async () => {
  const f = await start();
  const hostId = await f.enroll("lost");
  const removed = await createSets(f, f.tenantId, "removed", { replicas: 1 });
  const placement = { spread: [{ by: "zone", maxSkew: 1 }] };
  for (let count = 0; count < 30; count++)
    await createSets(f, f.tenantId, `web-${count}`, { placement });
  await f.ctx.db.execute(
    sql`insert into sets select (jsonb_populate_record(s, jsonb_build_object('id', 'removed-' || n, 'desired', 'deleted',
          'state', 'lost', 'host_id', ${hostId}::text))).*
        from sets s, generate_series(1, 3000) n where s.service_id = ${removed}`,
  );
  await withTx(f.ctx.db, async (tx) => {
    const { sets, specs } = await listDueSets(tx, 4_000);
    expect(sets).toHaveLength(31);
    expect(specs).toHaveLength(31);
    expect(specs.flatMap(({ departing }) => departing)).toEqual([]);
    expect(await rowsReadOf(tx, "sets")).toBeLessThan(1_000);
  });
});

test("a batch that is smaller than the number of due sets reads no set that is not due", async () => {
  const f = await start();
  const due = await createSets(f, f.tenantId, "web", { replicas: 200 });
  await addWaitingTenants(f, 6_000, due);
  await withTx(f.ctx.db, async (tx) => {
    const { sets } = await listDueSets(tx, 100);
    expect(sets.map(({ serviceId }) => serviceId)).toEqual(Array(100).fill(due));
    expect(await rowsReadOf(tx, "sets")).toBeLessThan(1_000);
  });
});

test("the tenants of the longest due sets are in a batch, however many others wait", async () => {
  const f = await start();
  const due = await createSets(f, f.tenantId, "web", { replicas: 1_000 });
  await addWaitingTenants(f, 6_000, due);
  await withTx(f.ctx.db, async (tx) => {
    const { sets, hasMore } = await listDueSets(tx, 2);
    expect(sets.map(({ serviceId }) => serviceId)).toEqual([due, due]);
    expect(hasMore).toBe(true);
    expect(await rowsReadOf(tx, "sets")).toBeLessThan(20_000); // and not all due ones per tenant
  });
});
