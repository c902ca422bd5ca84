import { sql } from "drizzle-orm";
import { expect, test } from "vitest";
import { cordonHost } from "../../../src/control/hosts/cordon-host.ts";
import { drainHost } from "../../../src/control/hosts/drain-host.ts";
import type { PlacementSpec } from "../../../src/contracts/api/placement-spec.ts";
import { patchHost } from "../../../src/control/hosts/patch-host.ts";
import { createMover, type Mover } from "../../../src/control/operations/move-sets.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { controlSet } from "../../../src/control/sets/control-set.ts";
import { deleteSet } from "../../../src/control/sets/delete-set.ts";
import { getSet } from "../../../src/control/sets/get-set.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { type FleetContext, serviceBody, smallHost } from "../../support/fleet/fleet-context.ts";
import { fleetPerTest } from "../../support/fleet/fleet-per-test.ts";
import { listLiveSets, obeyOrders } from "../../support/fleet/live-sets.ts";

/** The capacity that Berth books on the next host before it stops a set. */

const start = fleetPerTest();

interface Draining {
  f: FleetContext;
  mover: Mover;
  h1: string;
  h2: string;
}

/**
 * h1 drains, with a stopped set of each service. A stopped set moves without a replacement. h2 has
 * the capacity for one of them.
 */
async function startDrain(services: readonly string[]): Promise<Draining> {
  const f = await start();
  const h1 = await f.enroll("h1");
  for (const name of services) await createService(f.ctx, f.tenantId, serviceBody(name));
  await f.placer.placeSets();
  await obeyOrders(f, h1);
  for (const { id } of await listLiveSets(f)) await controlSet(f.ctx, f.tenantId, id, "stop");
  await obeyOrders(f, h1);
  const h2 = await f.enroll("h2", { allocatable: { ...smallHost, cpuMillis: 1_000 } });
  await drainHost(f.ctx, h1);
  return { f, mover: createMover(f.ctx), h1, h2 };
}

/** The amounts of a host that are booked, and those that its next report does not contain. */
async function bookedOn(f: FleetContext, hostId: string) {
  const [row] = await queryRows<{ cpu: number; unreported: number }>(
    f.ctx.db,
    sql`select allocated_cpu_millis::int as cpu, unreported_cpu_millis::int as unreported from hosts where id = ${hostId}`,
  );
  return row;
}

async function reportUsage(f: FleetContext, hostId: string): Promise<void> {
  const none = { cpuMillis: 0, memoryBytes: 0, volumeBytes: 0, rootfsBytes: 0 };
  await f.sync(hostId, {
    usage: {
      used: none,
      allocatable: { ...smallHost, cpuMillis: 1_000 },
      reclaimableVolumeBytes: 0,
      trashedVolumeBytes: 0,
      volumeReason: null,
      disk: null,
      setMemoryBytes: {},
    },
  });
}

test("moves of two services never count on the same capacity: one set stays until a host fits", async () => {
  const { f, mover, h1 } = await startDrain(["a", "b"]);
  expect(await mover.moveSets()).toBe(1);
  await obeyOrders(f, h1);
  await mover.moveSets();
  const hosts = (await listLiveSets(f)).map(({ host }) => host);
  expect(new Set(hosts)).toEqual(new Set(["h1", "h2"]));
  const staying = (await listLiveSets(f)).find(({ host }) => host === "h1");
  expect(await getSet(f.ctx, f.tenantId, staying?.id ?? "")).toMatchObject({
    operation: { phase: "waiting", blocked: { code: "move-held" } },
  });
});

/** h1 drains with a stopped set of the service, which has claimed h2. The host h3 is empty. */
async function startClaim(placement: Partial<PlacementSpec>): Promise<Draining> {
  const f = await start();
  const h1 = await f.enroll("h1");
  await createService(f.ctx, f.tenantId, serviceBody("a", { placement }));
  await f.placer.placeSets();
  await obeyOrders(f, h1);
  for (const { id } of await listLiveSets(f)) await controlSet(f.ctx, f.tenantId, id, "stop");
  await obeyOrders(f, h1);
  const h2 = await f.enroll("h2");
  await drainHost(f.ctx, h1);
  const mover = createMover(f.ctx);
  expect(await mover.moveSets()).toBe(1);
  expect(await bookedOn(f, h2)).toMatchObject({ cpu: 1_000 });
  await f.enroll("h3");
  return { f, mover, h1, h2 };
}

test("no set is placed on a host that a set with an anti-affinity to it has claimed", async () => {
  const { f, mover, h1 } = await startClaim({ antiAffinity: ["b"] });
  // Packing prefers h2, because the claim makes it the fuller host.
  await createService(f.ctx, f.tenantId, serviceBody("b"));
  await f.placer.placeSets();
  await obeyOrders(f, h1);
  await mover.moveSets();
  expect(await listLiveSets(f)).toMatchObject([{ host: "h2" }, { host: "h3" }]);
});

test("a claim does not count as a set for spread", async () => {
  const spread = [{ by: "host" as const, maxSkew: 1 }];
  const { f, mover, h1 } = await startClaim({ spread });
  await obeyOrders(f, h1);
  await mover.moveSets();
  expect(await listLiveSets(f)).toMatchObject([{ host: "h2" }]);
});

test.each([
  {
    what: "is tainted",
    change: (f: FleetContext, h2: string) =>
      patchHost(f.ctx, h2, undefined, { taints: [{ key: "spare", value: "yes" }] }),
  },
  {
    what: "gets a set that forbids it",
    change: async (f: FleetContext, h2: string) => {
      // Another process has planned that set before the claim.
      const placement = { antiAffinity: ["a"] };
      await createService(f.ctx, f.tenantId, serviceBody("b", { placement }));
      await f.ctx.db.execute(
        sql`update sets set state = 'placed', host_id = ${h2}, placed_at = now() where host_id is null`,
      );
    },
  },
])("a set is not placed on its claimed host if that host $what meanwhile", async ({ change }) => {
  const { f, mover, h1, h2 } = await startClaim({});
  const [moving] = await listLiveSets(f);
  await change(f, h2);
  await obeyOrders(f, h1);
  await mover.moveSets();
  const findMoving = async () => (await listLiveSets(f)).find(({ id }) => id === moving?.id);
  expect(await findMoving()).toMatchObject({ host: null });
  expect(await f.placer.placeSets()).toMatchObject({ placed: 1 });
  expect(await findMoving()).toMatchObject({ host: "h3" });
});

test("no other set gets the capacity of a set while it stops, and the booking is the same afterwards", async () => {
  const { f, mover, h1, h2 } = await startDrain(["a"]);
  expect(await mover.moveSets()).toBe(1);
  expect(await bookedOn(f, h2)).toEqual({ cpu: 1_000, unreported: 1_000 });
  await reportUsage(f, h2);
  expect(await bookedOn(f, h2)).toEqual({ cpu: 1_000, unreported: 1_000 });
  await createService(f.ctx, f.tenantId, serviceBody("thief"));
  expect(await f.placer.placeSets()).toMatchObject({ placed: 0, rejected: 1 });
  f.enqueued.length = 0;
  await obeyOrders(f, h1);
  expect(f.enqueued.map(({ name }) => name)).toContain("move-sets");
  await f.placer.placeSets();
  await mover.moveSets();
  const moved = (await listLiveSets(f)).filter(({ host }) => host === "h2");
  expect(moved).toMatchObject([{ desired: "stopped" }]);
  expect(await bookedOn(f, h2)).toMatchObject({ cpu: 1_000 });
  expect(await queryRows(f.ctx.db, sql`select 1 from claims`)).toEqual([]);
});

test("the removal of a set that stops ends the claim on its next host", async () => {
  const { f, mover, h2 } = await startDrain(["a"]);
  expect(await mover.moveSets()).toBe(1);
  expect(await bookedOn(f, h2)).toEqual({ cpu: 1_000, unreported: 1_000 });
  const [set] = await listLiveSets(f);
  await deleteSet(f.ctx, f.tenantId, set?.id ?? "");
  await mover.moveSets();
  expect(await bookedOn(f, h2)).toEqual({ cpu: 0, unreported: 0 });
});

test("a set whose next host is cordoned meanwhile is placed on another host immediately", async () => {
  const { f, mover, h1, h2 } = await startDrain(["a"]);
  expect(await mover.moveSets()).toBe(1);
  expect(await bookedOn(f, h2)).toEqual({ cpu: 1_000, unreported: 1_000 });
  await f.enroll("h3");
  await cordonHost(f.ctx, h2);
  await obeyOrders(f, h1);
  await mover.moveSets();
  expect(await bookedOn(f, h2)).toEqual({ cpu: 0, unreported: 0 });
  expect(await f.placer.placeSets()).toMatchObject({ placed: 1 });
  expect(await listLiveSets(f)).toMatchObject([{ host: "h3", desired: "stopped" }]);
});
