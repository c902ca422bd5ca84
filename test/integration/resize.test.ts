import { sql } from "drizzle-orm";
import { afterEach, expect, test } from "vitest";
import { type ResizeService, resizeServiceBody } from "../../src/contracts/services.ts";
import { rowsOf } from "../../src/db/queries/rows.ts";
import { assert } from "../../src/lib/assert.ts";
import { createService } from "../../src/services/create-service.ts";
import { deleteService } from "../../src/services/delete-service.ts";
import { getService } from "../../src/services/get-service.ts";
import { getSet } from "../../src/services/get-set.ts";
import { patchService } from "../../src/services/patch-service.ts";
import { resizeService } from "../../src/services/resize-service.ts";
import {
  createFleetContext,
  type FleetContext,
  observed,
  serviceBody,
  smallHost,
} from "../support/fleet-context.ts";

const GiB = 2 ** 30;
let fleet: FleetContext | undefined;

afterEach(async () => {
  await fleet?.close();
  fleet = undefined;
});

/** Two hosts of 4 cores, and a service of `replicas` sets of a core and a GiB each, spread over them. */
async function start(replicas: number): Promise<FleetContext> {
  fleet = await createFleetContext();
  await fleet.enroll("h1");
  await fleet.enroll("h2");
  const spread = [{ by: "host" as const, maxSkew: 1 }];
  const body = serviceBody("web", { replicas, placement: { spread } });
  await createService(fleet.ctx, fleet.tenantId, body);
  await fleet.placer.placeSets();
  return fleet;
}

function resize(f: FleetContext, body: Parameters<typeof resizeServiceBody.parse>[0]) {
  const parsed: ResizeService = resizeServiceBody.parse(body);
  return resizeService(f.ctx, f.tenantId, "web", parsed, undefined);
}

async function bookings({ ctx }: FleetContext) {
  return rowsOf<{ name: string; cpu: number; memory: number; booked: number }>(
    ctx.db,
    sql`select h.name, h.allocated_cpu_millis::float8 as cpu, h.allocated_memory_bytes::float8 as memory,
          (select coalesce(sum(cpu_millis), 0) from sets where host_id = h.id)::float8 as booked
        from hosts h order by h.name`,
  );
}

test("running sets get their new size in place: booked, and told to their hosts at once", async () => {
  const f = await start(4);
  const hostId = (await hostIds(f))[0] ?? "";
  const before = await f.sync(hostId, { full: true });
  const change = await resize(f, { cpu: 2, memory: "512Mi" });
  expect(change.effects[0]).toContain("4 sets get 2 cores");
  expect(change.service).toMatchObject({ revision: 2, template: { cpuMillis: 2_000 } });
  for (const { cpu, booked, memory } of await bookings(f))
    expect({ cpu, booked, memory }).toEqual({ cpu: 4_000, booked: 4_000, memory: GiB });
  const after = await f.sync(hostId, { acceptedGeneration: before.hostGeneration });
  expect(after.sets.map(({ setId }) => setId)).toEqual(before.sets.map(({ setId }) => setId));
  expect(after.sets[0]).toMatchObject({
    revision: 2,
    template: { cpuMillis: 2_000, memoryBytes: GiB / 2 },
    restartGeneration: before.sets[0]?.restartGeneration,
  });
  const again = await resize(f, { cpu: 2 });
  expect(again.effects).toEqual(["No set is touched: that is their size already."]);
  expect(again.service.revision).toBe(2);
});

test("sets of an older revision keep all of it but the size", async () => {
  const f = await start(2);
  const patch = { template: serviceBody("web").template };
  for (const container of patch.template.containers) container.image = "menu:43";
  await patchService(f.ctx, f.tenantId, "web", 1, patch);
  await resize(f, { memory: "2Gi" });
  const [hostId = ""] = await hostIds(f);
  const [set] = (await f.sync(hostId, { full: true })).sets;
  expect(set?.template).toMatchObject({ memoryBytes: 2 * GiB, containers: [{ image: "menu:42" }] });
  const { template } = await getService(f.ctx, f.tenantId, "web");
  expect(template).toMatchObject({ memoryBytes: 2 * GiB, containers: [{ image: "menu:43" }] });
});

test("I2: what a host has no room for is refused whole, or its sets are replaced elsewhere", async () => {
  const f = await start(3);
  await expect(resize(f, { cpu: 3 })).rejects.toThrow(
    /no room for the new size on .*insufficient-cpu/,
  );
  expect(await getService(f.ctx, f.tenantId, "web")).toMatchObject({ revision: 1, generation: 1 });
  for (const { cpu, booked } of await bookings(f)) expect(cpu).toBe(booked);
  const { effects } = await resize(f, { cpu: 3, ifNoRoom: "move" });
  expect(effects).toEqual([
    expect.stringContaining("1 sets get 3 cores"),
    "2 sets are replaced by new ones elsewhere.",
  ]);
  expect((await getService(f.ctx, f.tenantId, "web")).counts).toMatchObject({ pending: 2 });
  for (const { cpu, booked } of await bookings(f)) {
    expect(cpu).toBe(booked);
    expect(cpu).toBeLessThanOrEqual(smallHost.cpuMillis);
  }
});

test("less memory than a set uses is refused with the figure", async () => {
  const f = await start(1);
  const [used] = await rowsOf<{ hostId: string; setId: string }>(
    f.ctx.db,
    sql`select host_id as "hostId", id as "setId" from sets`,
  );
  const { hostId = "", setId = "" } = used ?? {};
  const use = { ...smallHost, cpuMillis: 0, memoryBytes: 0, volumeBytes: 0, rootfsBytes: 0 };
  const report = {
    used: use,
    allocatable: smallHost,
    reclaimableVolumeBytes: 0,
    trashedVolumeBytes: 0,
    volumeReason: null,
  };
  await f.sync(hostId, {
    usage: { ...report, disk: null, setMemoryBytes: { [setId]: 300 * 2 ** 20 } },
  });
  await expect(resize(f, { memory: "256Mi" })).rejects.toThrow(
    `Set ${setId} uses 314572800 bytes of memory, more than 268435456`,
  );
  await resize(f, { memory: "512Mi" });
});

test("a resize is told once more when the kernel holds the set to it, and what hinders it meanwhile", async () => {
  const f = await start(1);
  const [hostId = ""] = await hostIds(f);
  const report = async (changes: Parameters<typeof observed>[2]) => {
    const [set] = (await f.sync(hostId, { full: true })).sets;
    assert(set, "the host has the set");
    await f.sync(hostId, { observed: [observed(set, "running", changes)] });
    return getSet(f.ctx, f.tenantId, set.setId);
  };
  const told = async () => {
    const kinds = sql`('service-resized', 'set-warning', 'set-resized')`;
    const events = sql`select kind from events where kind in ${kinds} order by id`;
    return (await rowsOf<{ kind: string }>(f.ctx.db, events)).map(({ kind }) => kind);
  };
  expect(await report({ sized: false })).toMatchObject({ sized: true }); // somebody changed limits by hand
  await resize(f, { memory: "512Mi" });
  const reason = { code: "memory-in-use", text: "it uses more", phase: "resize" };
  expect(await report({ sized: false, reason })).toMatchObject({ sized: false, reason });
  expect(await told()).toEqual(["service-resized", "set-warning"]);
  expect(await report({ sized: true })).toMatchObject({ sized: true });
  await report({ sized: true });
  expect(await told()).toEqual(["service-resized", "set-warning", "set-resized"]);
});

test("volumes grow only, and only where there is one", async () => {
  const f = await start(1);
  await expect(resize(f, { volume: "1Gi" })).rejects.toThrow("no volume in its template");
  expect(() => resizeServiceBody.parse({})).toThrow("at least one");
});

test("a resized set that goes away gives back what it had booked", async () => {
  const f = await start(2);
  await resize(f, { cpu: 2 });
  for (const hostId of await hostIds(f)) {
    const { sets } = await f.sync(hostId, { full: true });
    await f.sync(hostId, { observed: sets.map((set) => observed(set, "running")) });
  }
  await deleteService(f.ctx, f.tenantId, "web", undefined);
  for (const hostId of await hostIds(f)) {
    const { sets } = await f.sync(hostId, { full: true });
    await f.sync(hostId, { observed: sets.map((set) => observed(set, "absent")) });
  }
  for (const { cpu, memory } of await bookings(f))
    expect({ cpu, memory }).toEqual({ cpu: 0, memory: 0 });
});

async function hostIds({ ctx }: FleetContext): Promise<string[]> {
  const rows = await rowsOf<{ id: string }>(ctx.db, sql`select id from hosts order by name`);
  return rows.map(({ id }) => id);
}
