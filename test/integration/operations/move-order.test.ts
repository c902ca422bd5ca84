import { sql } from "drizzle-orm";
import { expect, test } from "vitest";
import { drainHost } from "../../../src/control/hosts/drain-host.ts";
import { createMover } from "../../../src/control/operations/move-sets.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { getSet } from "../../../src/control/sets/get-set.ts";
import { listLiveSets, obeyOrders } from "../../support/fleet/live-sets.ts";
import { serviceBody, smallHost } from "../../support/fleet/fleet-context.ts";
import { fleetPerTest } from "../../support/fleet/fleet-per-test.ts";

/** The last order of an operator applies, and a set that cannot move delays no other set. */

const GiB = 2 ** 30;
const start = fleetPerTest();
type Service = Parameters<typeof serviceBody>[1];

/** A service "web" whose sets run on h1. `moveNow` also moves sets that wait for their retry. */
async function runWeb(more: Service, allocatable = smallHost) {
  const f = await start();
  const h1 = await f.enroll("h1", { allocatable });
  await createService(f.ctx, f.tenantId, serviceBody("web", more));
  await f.placer.placeSets();
  await obeyOrders(f, h1);
  const mover = createMover(f.ctx);
  const moveNow = async () => {
    await f.ctx.db.execute(sql`update operations set due_at = now() where phase = 'waiting'`);
    return mover.moveSets();
  };
  const hosts = async () => (await listLiveSets(f)).map(({ host }) => host);
  return { f, h1, mover, moveNow, hosts };
}

test("I13: a repeated drain withdraws the consent to discard volumes", async () => {
  const allocatable = { ...smallHost, volumeBytes: 10 * GiB };
  const template = {
    cpu: 0.5,
    memory: "256Mi",
    volume: { size: "1Gi", mountPath: "/data" },
    containers: [{ index: 0, name: "app", image: "menu:42", options: { cpu: 100, memory: 100 } }],
  };
  const { f, h1, mover, moveNow, hosts } = await runWeb({ replicas: 2, template }, allocatable);
  const h2 = await f.enroll("h2", { allocatable });
  await drainHost(f.ctx, h1, { discardVolumes: true });
  expect(await mover.moveSets()).toBe(1); // the other set waits for the budget
  await drainHost(f.ctx, h1);
  await obeyOrders(f, h1);
  await mover.moveSets();
  await f.placer.placeSets();
  await obeyOrders(f, h2);
  expect(new Set(await hosts())).toEqual(new Set(["h1", "h2"]));
  expect(await moveNow()).toBe(0);
  const stays = (await listLiveSets(f)).find(({ host }) => host === "h1");
  expect(await getSet(f.ctx, f.tenantId, stays?.id ?? "")).toMatchObject({
    operation: { owner: "drain", blocked: { code: "volume-bound" } },
  });
});

test("a replacement that is ready gets the time of minReadySeconds, however long that is", async () => {
  const { f, h1, mover, hosts } = await runWeb({ disruption: { minReadySeconds: 3_600 } });
  await f.ctx.db.execute(sql`update sets set ready_since = now() - interval '2 hours'`);
  const h2 = await f.enroll("h2");
  await drainHost(f.ctx, h1);
  expect(await mover.moveSets()).toBe(1);
  await f.placer.placeSets();
  await obeyOrders(f, h2);
  await f.ctx.db.execute(sql`update operations set due_at = now() - interval '1 minute'`);
  expect(await mover.moveSets()).toBe(0);
  expect(await hosts()).toEqual(expect.arrayContaining(["h1", "h2"]));
  await f.ctx.db.execute(sql`update sets set ready_since = now() - interval '2 hours'`);
  expect(await mover.moveSets()).toBe(1);
  await obeyOrders(f, h1);
  expect(await hosts()).toEqual(["h2"]);
});

test("a service that permits no surge moves its sets within maxUnavailable", async () => {
  const disruption = { maxSurge: 0, maxUnavailable: 1 };
  const { f, h1, mover, moveNow, hosts } = await runWeb({ replicas: 3, disruption });
  const h2 = await f.enroll("h2");
  await drainHost(f.ctx, h1);
  for (let round = 0; round < 3; round++) {
    expect(await moveNow()).toBe(1);
    expect(await moveNow()).toBe(0); // one set is unavailable
    await obeyOrders(f, h1);
    await mover.moveSets();
    await f.placer.placeSets();
    await obeyOrders(f, h2);
  }
  expect(await hosts()).toEqual(["h2", "h2", "h2"]);
});

test("a set that fits nowhere does not use up the budget of the others", async () => {
  const { f, h1, mover } = await runWeb({ replicas: 4 });
  const [first] = await listLiveSets(f);
  await f.ctx.db.execute(sql`update sets set cpu_millis = 3500 where id = ${first?.id}`);
  await f.enroll("h2", { allocatable: { ...smallHost, cpuMillis: 3_000 } });
  await drainHost(f.ctx, h1);
  expect(await mover.moveSets()).toBe(1); // a surge of 25% is one set
  expect(await getSet(f.ctx, f.tenantId, first?.id ?? "")).toMatchObject({
    operation: { blocked: { code: "move-held" } },
  });
});

test("a set that the budget denies holds no capacity that another set may use", async () => {
  const disruption = { maxSurge: 0, maxUnavailable: 1 };
  const { f, h1, mover } = await runWeb({ replicas: 3, disruption });
  const last = (await listLiveSets(f)).at(-1);
  await f.ctx.db.execute(sql`update sets set ready = false where id = ${last?.id}`);
  await f.enroll("h2", { allocatable: { ...smallHost, cpuMillis: 1_500 } });
  await drainHost(f.ctx, h1);
  expect(await mover.moveSets()).toBe(1); // the other sets are ready, and one is unavailable
  expect(await getSet(f.ctx, f.tenantId, last?.id ?? "")).toMatchObject({
    operation: { phase: "leaving" },
  });
});

test("a set that needs no budget gets the capacity for which a denied set was planned", async () => {
  const disruption = { maxSurge: 0, maxUnavailable: 2 };
  const { f, h1, mover } = await runWeb({ replicas: 4, disruption });
  const last = (await listLiveSets(f)).at(-1);
  await f.ctx.db.execute(sql`update sets set ready = false where id = ${last?.id}`);
  await f.enroll("h2", { allocatable: { ...smallHost, cpuMillis: 2_500 } });
  await drainHost(f.ctx, h1);
  // One more set may be unavailable, and two fit: a ready one, and the one that is not ready.
  expect(await mover.moveSets()).toBe(2);
  expect(await getSet(f.ctx, f.tenantId, last?.id ?? "")).toMatchObject({
    operation: { phase: "leaving" },
  });
});
