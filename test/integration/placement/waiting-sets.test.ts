import { sql } from "drizzle-orm";
import { expect, test } from "vitest";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { cordonHost } from "../../../src/control/hosts/cordon-host.ts";
import { patchHost } from "../../../src/control/hosts/patch-host.ts";
import { uncordonHost } from "../../../src/control/hosts/uncordon-host.ts";
import type { ControlContext } from "../../../src/control/runtime/context.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { getSet } from "../../../src/control/sets/get-set.ts";
import { scaleService } from "../../../src/control/services/scale-service.ts";
import { putHostPool } from "../../../src/control/hosts/put-host-pool.ts";
import { observed, serviceBody, smallHost } from "../../support/fleet/fleet-context.ts";
import { fleetPerTest } from "../../support/fleet/fleet-per-test.ts";

/** Sets that fit on no host: their reasons, and the times at which they are planned again. */

const start = fleetPerTest();

test("I5: a set that fits nowhere has a reason. It is retried with backoff, and immediately after new capacity", async () => {
  const f = await start();
  await f.enroll("h1");
  await createService(f.ctx, f.tenantId, serviceBody("web", { replicas: 6 }));
  expect(await f.placer.placeSets()).toMatchObject({ placed: 4, rejected: 2 });
  const rejected = await queryRows<{ text: string; reasons: unknown; late: boolean }>(
    f.ctx.db,
    sql`select s.reason->>'text' as text, r.reasons, s.plan_after > now() as late
        from sets s join rejections r on r.set_id = s.id where s.state = 'pending'`,
  );
  expect(rejected).toHaveLength(2);
  expect(rejected[0]).toMatchObject({
    reasons: [{ reason: "insufficient-cpu", hosts: 1 }],
    late: true,
  });
  expect(rejected[0]?.text).toMatch(/cpu/i);
  // On a slow machine the backoff of 0.5 s would be over before the new host reports.
  await f.ctx.db.execute(
    sql`update sets set plan_after = now() + interval '1 hour' where state = 'pending'`,
  );
  await f.enroll("h2");
  expect(f.enqueued.at(-1)).toMatchObject({
    name: "place-sets",
    payload: { cause: "capacity-gained" },
  });
  expect(await f.placer.placeSets()).toMatchObject({ placed: 2, rejected: 0 });
});

test("sets that wait are retried in small batches, so that a new set waits for a small one", async () => {
  const f = await start();
  await cordonHost(f.ctx, await f.enroll("h1"));
  await createService(f.ctx, f.tenantId, serviceBody("web", { replicas: 250 }));
  expect(await f.placer.placeSets()).toMatchObject({ placed: 0, rejected: 250, batches: 1 });
  await f.ctx.db.execute(sql`update sets set plan_after = now() where state = 'pending'`);
  expect(await f.placer.placeSets()).toMatchObject({ placed: 0, rejected: 250, batches: 5 });
});

const percents = { cpuMillis: 100, memoryBytes: 100, rootfsBytes: 100, volumeBytes: 100 };
const poolWith = (changes: object) => ({
  overcommitPercent: { ...percents, ...changes },
  highWaterPercent: percents,
});

test.each([
  {
    what: "a pool that may be filled further",
    cause: "pool-changed",
    close: (ctx: ControlContext) =>
      putHostPool(ctx, "default", poolWith({ cpuMillis: 10 }), undefined),
    open: (ctx: ControlContext) => putHostPool(ctx, "default", poolWith({}), undefined),
  },
  {
    what: "a host that takes sets again",
    cause: "host-uncordoned",
    close: cordonHost,
    open: uncordonHost,
  },
  {
    what: "a taint that is removed",
    cause: "host-changed",
    close: (ctx: ControlContext, hostId: string) =>
      patchHost(ctx, hostId, undefined, { taints: [{ key: "spare", value: "yes" }] }),
    open: (ctx: ControlContext, hostId: string) =>
      patchHost(ctx, hostId, undefined, { taints: [] }),
  },
])("waiting sets are planned immediately for $what", async ({ cause, close, open }) => {
  const f = await start();
  const hostId = await f.enroll("h1");
  await close(f.ctx, hostId);
  await createService(f.ctx, f.tenantId, serviceBody("web", { replicas: 2 }));
  for (let tries = 0; tries < 3; tries++) {
    await f.ctx.db.execute(sql`update sets set plan_after = now()`);
    expect(await f.placer.placeSets()).toMatchObject({ placed: 0, rejected: 2 });
  }
  await open(f.ctx, hostId);
  expect(f.enqueued.at(-1)).toMatchObject({ name: "place-sets", payload: { cause } });
  expect(await f.placer.placeSets()).toMatchObject({ placed: 2, rejected: 0 });
});

test("a set that failed to start returns to its previous host if no other host fits", async () => {
  const f = await start();
  const hostId = await f.enroll("only");
  await createService(f.ctx, f.tenantId, serviceBody("web"));
  await f.placer.placeSets();
  const [set] = (await f.sync(hostId)).sets;
  if (!set) throw new Error("the set is on its host");
  const reason = { code: "image-unavailable", text: "The registry is away.", phase: "image" };
  await f.sync(hostId, { observed: [observed(set, "failed", { gaveUp: true, reason })] });
  const [order] = (await f.sync(hostId, { acceptedGeneration: 1 })).sets;
  if (!order) throw new Error("the set is ordered off its host");
  await f.sync(hostId, { observed: [observed(order, "stopping")] });
  await f.sync(hostId, { observed: [observed(order, "absent")] });
  await f.ctx.db.execute(sql`update sets set plan_after = now()`);
  expect(await f.placer.placeSets()).toMatchObject({ placed: 0, rejected: 1 });
  expect((await getSet(f.ctx, null, set.setId)).reason?.text).toMatch(
    /^0 of 1 host fits: .* The last start failed: The registry is away\.$/,
  );
  await f.ctx.db.execute(sql`update sets set plan_after = now()`);
  expect(await f.placer.placeSets()).toMatchObject({ placed: 1 });
});

test("a set that failed to start keeps its backoff, and frees capacity for sets that wait for it", async () => {
  const f = await start();
  const hostId = await f.enroll("only");
  await createService(f.ctx, f.tenantId, serviceBody("web", { replicas: 5 }));
  await f.placer.placeSets(); // one more than the host has capacity for
  const { hostGeneration, sets } = await f.sync(hostId);
  const [set] = sets;
  if (!set) throw new Error("a set is on the host");
  await f.sync(hostId, { observed: [observed(set, "failed", { gaveUp: true })] });
  const [order] = (await f.sync(hostId, { acceptedGeneration: hostGeneration })).sets;
  if (!order) throw new Error("the set is ordered off its host");
  // However long the steps above took, the other set still waits for capacity.
  await f.ctx.db.execute(
    sql`update sets set plan_after = now() + interval '1 hour' where state = 'pending'`,
  );
  await f.sync(hostId, { observed: [observed(order, "absent")] });
  expect(f.enqueued.at(-1)).toMatchObject({ payload: { cause: "capacity-gained" } });
  const due = await queryRows<{ isDue: boolean; hasFailed: boolean }>(
    f.ctx.db,
    sql`select plan_after <= now() as "isDue", id = ${set.setId} as "hasFailed" from sets where state = 'pending'`,
  );
  expect(due).toHaveLength(2);
  for (const { isDue, hasFailed } of due) expect(isDue).toBe(!hasFailed);
});

test("the capacity of a removed set is tried for some waiting sets, not for all", async () => {
  const f = await start();
  const hostId = await f.enroll("only");
  await createService(f.ctx, f.tenantId, serviceBody("web", { replicas: 4 }));
  await f.placer.placeSets();
  await createService(f.ctx, f.tenantId, serviceBody("crowd", { replicas: 300 }));
  expect(await f.placer.placeSets()).toMatchObject({ placed: 0, rejected: 300 });
  await f.ctx.db.execute(
    sql`update sets set plan_after = now() + interval '30 seconds' where state = 'pending'`,
  );
  await scaleService(f.ctx, f.tenantId, "web", { replicas: 3 }, undefined);
  const removed = (await f.sync(hostId)).sets.filter(({ desired }) => desired === "deleted");
  await f.sync(hostId, { observed: removed.map((set) => observed(set, "absent")) });
  const [due] = await queryRows<{ count: number }>(
    f.ctx.db,
    sql`select count(*)::int as count from sets where state = 'pending' and plan_after <= now()`,
  );
  expect(due).toEqual({ count: 100 });
  expect(await f.placer.placeSets()).toMatchObject({ placed: 1, rejected: 99 });
});

test("a rejection is one event per service, and again only if the codes of its reasons change", async () => {
  const f = await start();
  const hostId = await f.enroll("h1");
  await createService(f.ctx, f.tenantId, serviceBody("web", { replicas: 7 }));
  const readEvents = () =>
    queryRows<{ sets: number; codes: string[]; hosts: number[] }>(
      f.ctx.db,
      sql`select (data->>'sets')::int as sets,
            array(select r->>'reason' from jsonb_array_elements(data->'reasons') r order by 1) as codes,
            array(select (r->>'hosts')::int from jsonb_array_elements(data->'reasons') r order by 1) as hosts
          from events where kind = 'set-rejected' order by id`,
    );
  const planAgain = async () => {
    await f.ctx.db.execute(sql`update sets set plan_after = now() where state = 'pending'`);
    return f.placer.placeSets();
  };
  expect(await f.placer.placeSets()).toMatchObject({ placed: 4, rejected: 3 });
  expect(await readEvents()).toEqual([{ sets: 3, codes: ["insufficient-cpu"], hosts: [1] }]);
  // One more full host changes the number of hosts, and no code.
  await f.enroll("h2", { allocatable: { ...smallHost, cpuMillis: 100 } });
  expect(await planAgain()).toMatchObject({ placed: 0, rejected: 3 });
  expect(await readEvents()).toHaveLength(1);
  await cordonHost(f.ctx, hostId);
  expect(await planAgain()).toMatchObject({ placed: 0, rejected: 3 });
  const [, second, ...others] = await readEvents();
  expect(second).toMatchObject({ sets: 3, codes: ["host-cordoned", "insufficient-cpu"] });
  expect(others).toEqual([]);
});
