import { sql } from "drizzle-orm";
import { expect, test } from "vitest";
import { computeOverhead } from "../../../src/contracts/api/container-overhead.ts";
import type { SetTemplate } from "../../../src/contracts/api/set-template.ts";
import { createMover } from "../../../src/control/operations/move-sets.ts";
import { drainHost } from "../../../src/control/hosts/drain-host.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { deleteService } from "../../../src/control/services/delete-service.ts";
import { controlSet } from "../../../src/control/sets/control-set.ts";
import { getTenant } from "../../../src/control/tenancy/get-tenant.ts";
import { findHost } from "../../../src/db/queries/hosts/read-hosts.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { type FleetContext, serviceBody, smallHost } from "../../support/fleet/fleet-context.ts";
import { fleetPerTest } from "../../support/fleet/fleet-per-test.ts";
import { resize } from "../../support/fleet/resizing.ts";
import { listLiveSets, obeyOrders } from "../../support/fleet/live-sets.ts";

const MiB = 2 ** 20;
const GiB = 2 ** 30;
const start = fleetPerTest();

/** A service of sets of 100 MiB, with one container each. */
function smallSets(name: string, replicas: number, more: Partial<SetTemplate> = {}) {
  const body = serviceBody(name, { replicas });
  const template = { ...body.template, cpuMillis: 10, memoryBytes: 100 * MiB, ...more };
  return { ...body, template };
}

/** The memory and the logs that Docker needs for these containers of a set, and infra. */
const needed = (containers: number) => ({
  memoryBytes: (containers + 1) * 8 * MiB,
  rootfsBytes: (containers + 1) * 20 * MiB,
});

async function allocatedOf(f: FleetContext, hostId: string) {
  const host = await findHost(f.ctx.db, hostId);
  return { memoryBytes: host?.allocated.memoryBytes, rootfsBytes: host?.allocated.rootfsBytes };
}

function reportUsage(f: FleetContext, hostId: string) {
  const used = { cpuMillis: 0, memoryBytes: 0, volumeBytes: 0, rootfsBytes: 0 };
  const trash = { reclaimableVolumeBytes: 0, trashedVolumeBytes: 0 };
  const none = { volumeReason: null, disk: null, setMemoryBytes: {} };
  return f.sync(hostId, { usage: { used, allocatable: smallHost, ...trash, ...none } });
}

test("I2: a burst of sets is never booked beyond a host, with what Docker needs for them", async () => {
  const f = await start();
  const hostId = await f.enroll("h1", { allocatable: { ...smallHost, memoryBytes: 2 * GiB } });
  await createService(f.ctx, f.tenantId, smallSets("burst", 50));
  await f.placer.placeSets();
  const { length: placed } = (await listLiveSets(f)).filter(({ host }) => host === "h1");
  const each = 100 * MiB + needed(1).memoryBytes;
  expect(placed).toBe(Math.floor((2 * GiB) / each));
  expect(await allocatedOf(f, hostId)).toEqual({
    memoryBytes: placed * each,
    rootfsBytes: placed * (GiB + needed(1).rootfsBytes),
  });
});

test("I2: the logs of a template count as root file system", async () => {
  const f = await start();
  await f.enroll("h1", { allocatable: { ...smallHost, rootfsBytes: 20 * GiB } });
  await f.ctx.db.execute(sql`update hosts set capabilities = '{"features": ["logging"]}'`);
  const body = smallSets("loud", 50);
  const [container] = body.template.containers;
  if (!container) throw new Error("the template has a container");
  const logging = { driver: "json-file" as const, maxFiles: 4, maxSizeBytes: 50 * MiB };
  const loud = { ...container, options: { ...container.options, logging } };
  const template = { ...body.template, containers: [loud] };
  await createService(f.ctx, f.tenantId, { ...body, template });
  await f.placer.placeSets();
  const { length: placed } = (await listLiveSets(f)).filter(({ host }) => host === "h1");
  // The high-water mark of root file systems is 90%.
  expect(placed).toBe(Math.floor((20 * GiB * 0.9) / (GiB + 200 * MiB + 20 * MiB)));
});

test("the overhead ends with the set, and is in no quota", async () => {
  const f = await start();
  const hostId = await f.enroll("h1");
  await createService(f.ctx, f.tenantId, smallSets("web", 3));
  await f.placer.placeSets();
  await obeyOrders(f, hostId);
  const { use } = await getTenant(f.ctx, f.tenantId, "food");
  expect(use.existing).toMatchObject({ memoryBytes: 300 * MiB, rootfsBytes: 3 * GiB });
  await deleteService(f.ctx, f.tenantId, "web", undefined);
  await obeyOrders(f, hostId);
  expect(await allocatedOf(f, hostId)).toEqual({ memoryBytes: 0, rootfsBytes: 0 });
  expect(
    await queryRows(f.ctx.db, sql`select overhead_memory_bytes::int as bytes from hosts`),
  ).toEqual([{ bytes: 0 }]);
});

test("a move books the overhead on the next host, and then ends it on the previous one", async () => {
  const f = await start();
  const h1 = await f.enroll("h1");
  await createService(f.ctx, f.tenantId, smallSets("web", 1));
  await f.placer.placeSets();
  await obeyOrders(f, h1);
  const [set] = await listLiveSets(f);
  await controlSet(f.ctx, f.tenantId, set?.id ?? "", "stop"); // it moves without a replacement
  await obeyOrders(f, h1);
  const h2 = await f.enroll("h2");
  await drainHost(f.ctx, h1);
  const mover = createMover(f.ctx);
  await mover.moveSets();
  const booked = { memoryBytes: 116 * MiB, rootfsBytes: GiB + 40 * MiB };
  expect([await allocatedOf(f, h1), await allocatedOf(f, h2)]).toEqual([booked, booked]); // a claim
  await obeyOrders(f, h1);
  await mover.moveSets();
  expect((await listLiveSets(f)).map(({ host }) => host)).toEqual(["h2"]);
  expect(await allocatedOf(f, h1)).toEqual({ memoryBytes: 0, rootfsBytes: 0 });
  expect(await allocatedOf(f, h2)).toEqual(booked);
});

test("I2: a set grows in place only as far as the overhead of its host's containers permits", async () => {
  const f = await start();
  const hostId = await f.enroll("h1", { allocatable: { ...smallHost, memoryBytes: GiB } });
  await createService(f.ctx, f.tenantId, smallSets("web", 1));
  await f.placer.placeSets();
  await obeyOrders(f, hostId);
  const largest = GiB - needed(1).memoryBytes;
  await expect(resize(f, { memory: largest + 1 })).rejects.toThrow("insufficient-memory");
  await resize(f, { memory: largest });
  expect((await allocatedOf(f, hostId)).memoryBytes).toBe(GiB);
});

test("a set that the previous release places gets its overhead, and the next report the sum", async () => {
  const f = await start();
  const hostId = await f.enroll("h1");
  await createService(f.ctx, f.tenantId, smallSets("old", 1));
  // The previous release names neither the columns of the set nor those of the host.
  await f.ctx.db.execute(sql`update sets set host_id = ${hostId}, state = 'running'`);
  const [set] = await queryRows(
    f.ctx.db,
    sql`select overhead_memory_bytes::int as "memoryBytes", overhead_rootfs_bytes::int as "rootfsBytes" from sets`,
  );
  expect(set).toEqual(computeOverhead([null]));
  expect(await allocatedOf(f, hostId)).toEqual({ memoryBytes: 0, rootfsBytes: 0 });
  await reportUsage(f, hostId);
  expect(await allocatedOf(f, hostId)).toEqual(needed(1));
});
