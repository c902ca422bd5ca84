import { sql } from "drizzle-orm";
import { afterEach, expect, test } from "vitest";
import {
  continueResize,
  SETS_AT_ONCE_MAX,
  SETS_PER_ROUND_MAX,
} from "../../../src/control/services/resize-round.ts";
import { resizeServiceBody } from "../../../src/contracts/api/services.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { assert } from "../../../src/lib/assert.ts";
import { cordonHost } from "../../../src/control/hosts/cordon-host.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { deleteService } from "../../../src/control/services/delete-service.ts";
import { getService } from "../../../src/control/services/get-service.ts";
import { getSet } from "../../../src/control/sets/get-set.ts";
import { patchService } from "../../../src/control/services/patch-service.ts";
import {
  createFleetContext,
  type FleetContext,
  observed,
  serviceBody,
  smallHost,
} from "../../support/fleet/fleet-context.ts";
import { bookings, hostIds, obey, resize, startWeb } from "../../support/fleet/resizing.ts";
import { runningContainer } from "../../support/fleet/running-container.ts";

const GiB = 2 ** 30;
let fleet: FleetContext | undefined;

afterEach(async () => {
  await fleet?.close();
  fleet = undefined;
});

async function start(replicas: number): Promise<FleetContext> {
  fleet = await startWeb(replicas);
  return fleet;
}

test("running sets get their new size in place: Berth books it, and their hosts get it immediately", async () => {
  const f = await start(4);
  const hostId = (await hostIds(f))[0] ?? "";
  const before = await f.sync(hostId, { full: true });
  const change = await resize(f, { cpu: 2, memory: "512Mi" });
  expect(change.effects[0]).toContain("resize 4 sets in place to 2 cores");
  expect(change.service).toMatchObject({
    revision: 1,
    targetRevision: 1,
    size: { cpuMillis: 2_000 },
    template: { cpuMillis: 2_000 },
  });
  for (const { cpu, booked, memory } of await bookings(f))
    expect({ cpu, booked, memory }).toEqual({ cpu: 4_000, booked: 4_000, memory: 2 * GiB });
  const after = await f.sync(hostId, { acceptedGeneration: before.hostGeneration });
  expect(after.sets.map(({ setId }) => setId)).toEqual(before.sets.map(({ setId }) => setId));
  expect(after.sets[0]).toMatchObject({
    revision: 1,
    template: { cpuMillis: 2_000, memoryBytes: GiB / 2 },
    restartGeneration: before.sets[0]?.restartGeneration,
  });
  const again = await resize(f, { cpu: 2 });
  expect(again.effects).toEqual(["No change: all sets already have this size."]);
  expect(again.service.revision).toBe(1);
});

test("sets of an older revision change only their size", async () => {
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

test("I2: a size that one host has no capacity for is refused for all sets", async () => {
  const f = await start(3);
  for (const cpu of [3, 64]) await expect(resize(f, { cpu })).rejects.toThrow("No capacity");
  expect(await getService(f.ctx, f.tenantId, "web")).toMatchObject({
    revision: 1,
    generation: 1,
    counts: { placed: 3 },
  });
  for (const { cpu, booked } of await bookings(f)) expect(cpu).toBe(booked);
});

test("a large service is resized in rounds of 100 sets, and new sets have the size immediately", async () => {
  fleet = await createFleetContext();
  const f = fleet;
  const allocatable = { ...smallHost, cpuMillis: 1_000_000, memoryBytes: 2 ** 42 };
  for (const name of ["h1", "h2"])
    await f.enroll(name, { allocatable: { ...allocatable, rootfsBytes: 2 ** 42 } });
  const replicas = SETS_AT_ONCE_MAX + 50;
  const { service } = await createService(f.ctx, f.tenantId, serviceBody("web", { replicas }));
  await f.placer.placeSets();
  const { effects } = await resize(f, { cpu: 0.5 });
  expect(effects[0]).toContain(`resize ${replicas} sets in place to 0.5 cores`);
  const sizes = () =>
    queryRows<{ cpu: number; sets: number }>(
      f.ctx.db,
      sql`select coalesce(o.cpu_millis, s.cpu_millis)::int as cpu, count(*)::int as sets
          from sets s left join operations o on o.set_id = s.id group by 1 order by 1`,
    );
  expect(await sizes()).toEqual([
    { cpu: 500, sets: SETS_PER_ROUND_MAX },
    { cpu: 1_000, sets: replicas - SETS_PER_ROUND_MAX },
  ]);
  expect(f.enqueued.map(({ name }) => name)).toContain("resize-service");
  expect(SETS_PER_ROUND_MAX).toBe(100);
  expect(await continueResize(f.ctx, service.id)).toBe(250);
  expect(await continueResize(f.ctx, service.id)).toBe(0);
  // Each transaction has its own time.
  const rounds = await queryRows<{ sets: number }>(
    f.ctx.db,
    sql`select count(*)::int as sets from sets group by updated_at order by updated_at`,
  );
  expect(rounds.map(({ sets }) => sets)).toEqual([100, 100, 100, 50]);
  expect(await sizes()).toEqual([{ cpu: 500, sets: replicas }]);
});

test("a second resize of another amount includes the sets that the first one has not resized yet", async () => {
  fleet = await createFleetContext();
  const f = fleet;
  const allocatable = { ...smallHost, cpuMillis: 1_000_000, memoryBytes: 2 ** 42 };
  for (const name of ["h1", "h2"])
    await f.enroll(name, { allocatable: { ...allocatable, rootfsBytes: 2 ** 42 } });
  const replicas = SETS_AT_ONCE_MAX + 50;
  const { service } = await createService(f.ctx, f.tenantId, serviceBody("web", { replicas }));
  await f.placer.placeSets();
  await resize(f, { cpu: 0.5, memory: service.size.memoryBytes * 2 });
  await resize(f, { memory: service.size.memoryBytes });
  let sets = 1;
  while (sets > 0) sets = await continueResize(f.ctx, service.id);
  const sizes = await queryRows(
    f.ctx.db,
    sql`select distinct coalesce(o.cpu_millis, s.cpu_millis)::int as cpu,
          coalesce(o.memory_bytes, s.memory_bytes)::float8 as memory
        from sets s left join operations o on o.set_id = s.id`,
  );
  expect(sizes).toEqual([{ cpu: 500, memory: service.size.memoryBytes }]);
});

test("I2: the old size stays booked until the kernel applies a smaller one; then waiting sets are planned", async () => {
  const f = await start(1);
  const [hostId = "", otherId = ""] = await hostIds(f);
  await cordonHost(f.ctx, otherId);
  await resize(f, { cpu: 4 });
  await obey(f, hostId);
  const none = { ...smallHost, cpuMillis: 0, memoryBytes: 0, volumeBytes: 0, rootfsBytes: 0 };
  const report = {
    used: none,
    allocatable: smallHost,
    reclaimableVolumeBytes: 0,
    trashedVolumeBytes: 0,
    volumeReason: null,
    disk: null,
  };
  await f.sync(hostId, { usage: { ...report, setMemoryBytes: {} } });
  await createService(f.ctx, f.tenantId, serviceBody("other", { replicas: 1 }));
  await resize(f, { cpu: 1 });
  expect(await f.placer.placeSets()).toMatchObject({ placed: 0, rejected: 1 });
  expect((await bookings(f))[0]).toMatchObject({ cpu: 4_000, booked: 4_000 });
  f.enqueued.length = 0;
  await obey(f, hostId);
  expect((await bookings(f))[0]).toMatchObject({ cpu: 1_000, booked: 1_000 });
  expect(f.enqueued).toMatchObject([{ name: "place-sets", payload: { cause: "capacity-gained" } }]);
  expect(await f.placer.placeSets()).toMatchObject({ placed: 1 });
});

test("a size that hosts refuse repeatedly is reverted: one size everywhere, with the reason", async () => {
  const f = await start(1);
  const [hostId = ""] = (
    await queryRows<{ hostId: string }>(f.ctx.db, sql`select host_id as "hostId" from sets`)
  ).map((row) => row.hostId);
  await obey(f, hostId);
  await resize(f, { cpu: 2, memory: "512Mi" });
  const [set] = (await f.sync(hostId, { full: true })).sets;
  assert(set, "the host has the set");
  const reason = { code: "memory-in-use", text: "the set uses 600 MiB", phase: "resize" };
  await f.sync(hostId, { observed: [observed(set, "running", { sized: false, reason })] });
  expect(await getService(f.ctx, f.tenantId, "web")).toMatchObject({ settled: false });
  const report = observed(set, "running", { sized: false, sizeRefused: true, reason });
  await f.sync(hostId, { observed: [report, report] });
  await f.sync(hostId, { observed: [report] });
  const [back] = (await f.sync(hostId, { full: true })).sets;
  expect(back).toMatchObject({ revision: 1, template: { cpuMillis: 1_000, memoryBytes: GiB } });
  expect(back?.generation).toBe(set.generation + 1);
  // Until the agent reports the previous size as applied, both sizes are booked.
  const booked = (await bookings(f)).find(({ cpu }) => cpu > 0);
  expect(booked).toMatchObject({ cpu: 2_000, memory: GiB });
  await obey(f, hostId);
  expect((await bookings(f)).find(({ cpu }) => cpu > 0)).toMatchObject({ cpu: 1_000, memory: GiB });
  const after = await getSet(f.ctx, f.tenantId, set.setId);
  expect(after).toMatchObject({
    resizeApplied: true,
    cpuMillis: 1_000,
    reason: { code: "resize-refused", text: expect.stringContaining("the set uses 600 MiB") },
  });
  const kinds = await queryRows<{ text: string }>(
    f.ctx.db,
    sql`select text from events where kind = 'set-resize-refused'`,
  );
  expect(kinds).toHaveLength(1);
  expect(await getService(f.ctx, f.tenantId, "web")).toMatchObject({
    settled: true,
    reason: { code: "resize-refused" },
  });
  await resize(f, { memory: "512Mi", cpu: 2 }); // once more
  await obey(f, hostId);
  expect(await getSet(f.ctx, f.tenantId, set.setId)).toMatchObject({
    reason: null,
    cpuMillis: 2_000,
    memoryBytes: GiB / 2,
  });
});

test("pending sets that become smaller are planned immediately, even while other sets are removed", async () => {
  fleet = await createFleetContext();
  const f = fleet;
  const h1 = await f.enroll("h1");
  await createService(f.ctx, f.tenantId, serviceBody("web", { replicas: 6 }));
  expect(await f.placer.placeSets()).toMatchObject({ placed: 4, rejected: 2 });
  await obey(f, h1);
  const [leaving] = (await f.sync(h1, { full: true })).sets;
  assert(leaving, "the host has sets");
  await f.ctx.db.execute(
    sql`insert into operations (set_id, service_id, kind, phase, owner)
        select id, service_id, 'move', 'leaving', 'person' from sets where id = ${leaving.setId}`,
  );
  await f.ctx.db.execute(sql`update sets set leaving = true where id = ${leaving.setId}`);
  await f.ctx.db.execute(sql`update hosts set allocatable_cpu_millis = 5500`);
  f.enqueued.length = 0;
  // three sets grow by half a core each: with the leaving set, that would exceed the capacity
  await resize(f, { cpu: 1.5 });
  await resize(f, { cpu: 0.5 });
  expect(f.enqueued.map(({ name }) => name)).toContain("place-sets");
  // due immediately, although everything is still booked
  expect(await f.placer.placeSets()).toMatchObject({ rejected: 2 });
  await f.sync(h1, { observed: [observed(leaving, "absent", { generation: 1_000 })] });
  const released = await getSet(f.ctx, f.tenantId, leaving.setId);
  expect(released).toMatchObject({ state: "pending", cpuMillis: 500, revision: 1 });
  await obey(f, h1);
  // the released set avoids its previous host
  expect(await f.placer.placeSets()).toMatchObject({ placed: 2, rejected: 1 });
  for (const { cpu, booked } of await bookings(f)) expect([cpu, booked]).toEqual([2_500, 2_500]);
});

test("a memory limit below the usage of a set or container is refused with the figure, unless the report is old", async () => {
  const f = await start(1);
  const [used] = await queryRows<{ hostId: string; setId: string }>(
    f.ctx.db,
    sql`select host_id as "hostId", id as "setId" from sets`,
  );
  const { hostId = "", setId = "" } = used ?? {};
  const none = { ...smallHost, cpuMillis: 0, memoryBytes: 0, volumeBytes: 0, rootfsBytes: 0 };
  const usage = {
    used: none,
    allocatable: smallHost,
    reclaimableVolumeBytes: 0,
    trashedVolumeBytes: 0,
    volumeReason: null,
    disk: null,
  };
  const report = (mebibytes: number, containers: Record<string, number> = {}) =>
    f.sync(hostId, {
      usage: { ...usage, setMemoryBytes: { [setId]: mebibytes * 2 ** 20, ...containers } },
    });
  await report(300);
  await expect(resize(f, { memory: "256Mi" })).rejects.toThrow(
    `Set ${setId} uses 300 MiB of memory, more than its new limit of 256 MiB`,
  );
  const dockerId = "0123456789ab".padEnd(64, "c");
  const [set] = (await f.sync(hostId, { full: true })).sets;
  assert(set, "the host has the set");
  await f.sync(hostId, {
    observed: [observed(set, "running", { containers: [runningContainer({ dockerId })] })],
  });
  await f.ctx.db.execute(
    sql`update revisions set template = jsonb_set(template, '{containers,0,options,memoryPercent}', '50')`,
  );
  await report(100, { "0123456789ab": 100 * 2 ** 20 });
  await expect(resize(f, { memory: "160Mi" })).rejects.toThrow(
    `Container "app" of set ${setId} uses 100 MiB of memory, more than its new limit of 80 MiB`,
  );
  await resize(f, { memory: "512Mi" });
  await f.ctx.db.execute(sql`update hosts set reported_at = now() - interval '1 hour'`);
  await resize(f, { memory: "160Mi" }); // the report is old, so the agent and the kernel decide
});

test("an event reports a resize when the kernel applies it, and a warning reports an obstacle", async () => {
  const f = await start(1);
  const [hostId = ""] = await hostIds(f);
  const report = async (changes: Parameters<typeof observed>[2]) => {
    const [set] = (await f.sync(hostId, { full: true })).sets;
    assert(set, "the host has the set");
    await f.sync(hostId, { observed: [observed(set, "running", changes)] });
    return getSet(f.ctx, f.tenantId, set.setId);
  };
  const readKinds = async () => {
    const kinds = sql`('service-resized', 'set-warning', 'set-resized')`;
    const events = sql`select kind from events where kind in ${kinds} order by id`;
    return (await queryRows<{ kind: string }>(f.ctx.db, events)).map(({ kind }) => kind);
  };
  // a user changed limits by hand
  expect(await report({ sized: false })).toMatchObject({ resizeApplied: true });
  await resize(f, { memory: "512Mi" });
  const reason = { code: "memory-in-use", text: "it uses more", phase: "resize" };
  expect(await report({ sized: false, reason })).toMatchObject({ resizeApplied: false, reason });
  expect(await readKinds()).toEqual(["service-resized", "set-warning"]);
  expect(await report({ sized: true })).toMatchObject({ resizeApplied: true });
  await report({ sized: true });
  expect(await readKinds()).toEqual(["service-resized", "set-warning", "set-resized"]);
});

test("volumes only grow, and only sets with a volume are affected", async () => {
  const f = await start(1);
  await expect(resize(f, { volume: "1Gi" })).rejects.toThrow("no volume in its template");
  expect(() => resizeServiceBody.parse({})).toThrow("at least one");
});

test("a resized set that is removed releases its whole booking", async () => {
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
