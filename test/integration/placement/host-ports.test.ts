import { sql } from "drizzle-orm";
import { expect, test } from "vitest";
import { desiredSetSchema } from "../../../src/contracts/agent-protocol/desired-set.ts";
import { omitUnsupportedSets } from "../../../src/control/hosts/omit-unsupported-sets.ts";
import { deleteHost } from "../../../src/control/hosts/delete-host.ts";
import { drainHost } from "../../../src/control/hosts/drain-host.ts";
import { createMover } from "../../../src/control/operations/move-sets.ts";
import { chooseForPlacements } from "../../../src/control/placement/choose-for-placements.ts";
import { createPlacer } from "../../../src/control/placement/place-pending-sets.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { deleteService } from "../../../src/control/services/delete-service.ts";
import { controlSet } from "../../../src/control/sets/control-set.ts";
import { deleteSet } from "../../../src/control/sets/delete-set.ts";
import { explainSet } from "../../../src/control/sets/explain-set.ts";
import { restoreVolume } from "../../../src/control/volumes/restore-volume.ts";
import { insertHostPorts } from "../../../src/db/queries/placement/host-ports.ts";
import { commitPlacements } from "../../../src/db/queries/placement/placements.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { lockHosts } from "../../../src/db/queries/sets/write-sets.ts";
import { withTx } from "../../../src/db/transaction.ts";
import { assert } from "../../../src/lib/assert.ts";
import { newId } from "../../../src/lib/ids.ts";
import { type FleetContext, observed, smallHost } from "../../support/fleet/fleet-context.ts";
import { fleetPerTest } from "../../support/fleet/fleet-per-test.ts";
import { listLiveSets, obeyOrders } from "../../support/fleet/live-sets.ts";
import { findAddressFaults, listAddresses } from "../../support/fleet/network-hosts.ts";
import { trashed, volumeOf } from "../../support/fleet/trashed-volume.ts";
import {
  enrollPublishing,
  findHostPortFaults,
  listHostPorts,
  publishingBody,
} from "../../support/fleet/port-hosts.ts";

const start = fleetPerTest();
const largeHost = { ...smallHost, cpuMillis: 64_000, memoryBytes: 2 ** 38 };
const small = { first: 20_000, last: 20_007 };

test("a set with published ports gets ports of its host, until it has left the host", async () => {
  const f = await start();
  const h1 = await enrollPublishing(f, "h1");
  await createService(f.ctx, f.tenantId, publishingBody("web", [true, { hostPort: 8_080 }]));
  expect(await f.placer.placeSets()).toMatchObject({ placed: 1 });
  const [fixed, chosen] = await listHostPorts(f);
  expect(fixed).toMatchObject({ port: 8_080, name: "p1" });
  expect(chosen?.name).toBe("p0");
  expect(chosen?.port).toBeGreaterThanOrEqual(20_000);
  expect(chosen?.port).toBeLessThanOrEqual(32_767);
  const { sets } = await f.sync(h1, { full: true });
  expect(sets.map((set) => desiredSetSchema.parse(set).hostPorts)).toEqual([
    [
      { protocol: "tcp", port: 80, hostPort: chosen?.port },
      { protocol: "tcp", port: 81, hostPort: 8_080 },
    ],
  ]);
  await obeyOrders(f, h1);
  await deleteService(f.ctx, f.tenantId, "web", undefined);
  const older = omitUnsupportedSets(await f.sync(h1, { full: true }));
  expect(older.sets).toHaveLength(1);
  expect(Object.keys(older.sets[0] ?? {})).not.toContain("hostPorts");
  expect(older.sets[0]?.template.ports).toBeUndefined();
  expect(await listHostPorts(f)).toHaveLength(2);
  await obeyOrders(f, h1);
  expect(await listHostPorts(f)).toEqual([]);
});

test("each host runs one set with a fixed port, and others have a counted reason", async () => {
  const f = await start();
  await enrollPublishing(f, "h1");
  await enrollPublishing(f, "h2");
  await f.enroll("h3");
  await createService(f.ctx, f.tenantId, publishingBody("web", [{ hostPort: 80 }], 3));
  expect(await f.placer.placeSets()).toMatchObject({ placed: 2, rejected: 1, conflicts: 0 });
  expect((await listHostPorts(f)).map(({ host, port }) => `${host} ${port}`)).toEqual([
    "h1 80",
    "h2 80",
  ]);
  const waiting = (await listLiveSets(f)).find(({ host }) => host === null);
  const { rejection } = await explainSet(f.ctx, f.tenantId, waiting?.id ?? "");
  expect(rejection?.reasons).toEqual([
    { reason: "host-port-taken", hosts: 2 },
    { reason: "agent-too-old", hosts: 1 },
    { reason: "publishing-unavailable", hosts: 1 },
  ]);
  // Another service does not get the port either, and nor does the same set later.
  await createService(f.ctx, f.tenantId, publishingBody("other", [{ hostPort: 80 }]));
  await f.ctx.db.execute(sql`update sets set plan_after = now()`);
  expect(await f.placer.placeSets()).toMatchObject({ placed: 0, rejected: 2, conflicts: 0 });
  await enrollPublishing(f, "h4");
  await f.ctx.db.execute(sql`update sets set plan_after = now()`);
  expect(await f.placer.placeSets()).toMatchObject({ placed: 1, rejected: 1 });
});

test("a set that could not start gets another port on the same host", async () => {
  const f = await start();
  const h1 = await enrollPublishing(f, "h1");
  await createService(f.ctx, f.tenantId, publishingBody("web", [true]));
  const seen = new Set<number>();
  for (let placements = 0; placements < 3; placements++) {
    // The first attempt may avoid the host, and the next one does not.
    for (let attempts = 0; attempts < 2; attempts++) {
      await f.ctx.db.execute(sql`update sets set plan_after = now()`);
      await f.placer.placeSets();
    }
    for (const { port } of await listHostPorts(f)) seen.add(port);
    const { sets } = await f.sync(h1, { full: true });
    await f.sync(h1, { observed: sets.map((set) => observed(set, "failed", { gaveUp: true })) });
    const leaving = (await f.sync(h1, { full: true })).sets;
    await f.sync(h1, { observed: leaving.map((set) => observed(set, "absent")) });
  }
  expect(seen.size).toBe(3);
});

test("a set that stops before it moves gets ports of its next host", async () => {
  const f = await start();
  const h1 = await enrollPublishing(f, "h1");
  await createService(f.ctx, f.tenantId, publishingBody("web", [true, { hostPort: 80 }]));
  await f.placer.placeSets();
  await obeyOrders(f, h1);
  await enrollPublishing(f, "h2");
  const [set] = await listLiveSets(f);
  await controlSet(f.ctx, f.tenantId, set?.id ?? "", "stop");
  await obeyOrders(f, h1);
  const mover = createMover(f.ctx);
  await drainHost(f.ctx, h1);
  await mover.moveSets();
  await obeyOrders(f, h1);
  await mover.moveSets();
  expect(await listHostPorts(f)).toMatchObject([
    { host: "h2", port: 80, setId: set?.id },
    { host: "h2", name: "p0" },
  ]);
  expect(await findHostPortFaults(f)).toEqual([]);
});

test("a restored volume brings its set to its host, unless a fixed port is taken there", async () => {
  const f = await start();
  const volumeBytes = 2 ** 30;
  const hostId = await enrollPublishing(f, "h1", { allocatable: { ...smallHost, volumeBytes } });
  const body = publishingBody("db", [{ hostPort: 80 }], 0);
  const volume = { sizeBytes: 2 ** 24, mountPath: "/data" };
  await createService(f.ctx, f.tenantId, { ...body, template: { ...body.template, volume } });
  const volumes = [newId("set"), newId("set")].map((setId) => volumeOf(setId, trashed));
  await f.sync(hostId, { volumes });
  const restored = await restoreVolume(f.ctx, null, volumes[0]?.volumeId ?? "");
  expect(await listHostPorts(f)).toMatchObject([{ setId: restored.id, port: 80 }]);
  await expect(restoreVolume(f.ctx, null, volumes[1]?.volumeId ?? "")).rejects.toMatchObject({
    code: "state-conflict",
    publicDetail: expect.stringContaining("host-port-taken"),
  });
});

test("a set that stays with its volume gets another port when a program has its port", async () => {
  const f = await start();
  const volumeBytes = 2 ** 30;
  const h1 = await enrollPublishing(f, "h1", { allocatable: { ...smallHost, volumeBytes } });
  const body = publishingBody("db", [true, { hostPort: 80 }]);
  const volume = { sizeBytes: 2 ** 24, mountPath: "/data" };
  await createService(f.ctx, f.tenantId, { ...body, template: { ...body.template, volume } });
  await f.placer.placeSets();
  const { sets } = await f.sync(h1, { full: true });
  const [set] = sets;
  assert(set, "the host has the set");
  await f.sync(h1, { volumes: [volumeOf(set.setId, { state: "live" })] });
  const before = set.hostPorts?.map(({ hostPort }) => hostPort) ?? [];
  const reason = { code: "host-port-taken", text: "A program has the port.", phase: "prepare" };
  const report = observed(set, "failed", { gaveUp: true, reason });
  await f.sync(h1, { observed: [report] });
  const [changed] = (await f.sync(h1, { full: true })).sets;
  expect(changed).toMatchObject({ setId: set.setId, desired: "running" });
  const after = changed?.hostPorts?.map(({ hostPort }) => hostPort) ?? [];
  expect(after).toHaveLength(2);
  expect(after[0]).not.toBe(before[0]);
  expect(after[1]).toBe(80);
  // A repeated report is about the previous generation.
  await f.sync(h1, { observed: [report] });
  expect((await f.sync(h1, { full: true })).sets[0]).toEqual(changed);
  expect(await findHostPortFaults(f)).toEqual([]);
});

test("a deleted host frees its ports", async () => {
  const f = await start();
  const h1 = await enrollPublishing(f, "h1");
  await createService(f.ctx, f.tenantId, publishingBody("web", [true]));
  await f.placer.placeSets();
  await f.ctx.db.execute(sql`update hosts set state = 'lost'`);
  await deleteHost(f.ctx, h1, { confirm: h1 });
  expect(await queryRows(f.ctx.db, sql`select 1 from host_ports`)).toEqual([]);
});

/** Places a set as the mover and a restore do: without the placement lock. */
async function placeOn(f: FleetContext, setId: string, hostId: string): Promise<boolean> {
  const { template } = publishingBody("web", [true]);
  return withTx(f.ctx.db, async (tx) => {
    await lockHosts(tx, [hostId]);
    const overhead = { memoryBytes: 0, rootfsBytes: 0 };
    const placement = { placementId: newId("plc"), setId, hostId, generation: 1, overhead };
    const { placements, chosen } = await chooseForPlacements(
      tx,
      [{ ...placement, score: 0, because: {} }],
      {
        requests: new Map([[setId, { templateNetworks: null, publishedPorts: template.ports }]]),
        hosts: new Map([[hostId, { features: [] }]]),
        range: small,
      },
    );
    await commitPlacements(tx, placements, 1);
    await insertHostPorts(tx, chosen.hostPorts);
    return placements.length === 1;
  });
}

test("concurrent placements get different ports, up to the last one", async () => {
  const f = await start();
  const hostIds = await Promise.all(
    ["h1", "h2"].map((name) => enrollPublishing(f, name, { allocatable: largeHost })),
  );
  await createService(f.ctx, f.tenantId, publishingBody("web", [true], 24));
  const sets = await queryRows<{ id: string }>(f.ctx.db, sql`select id from sets order by id`);
  const placed = await Promise.all(
    sets.map(({ id }, index) => placeOn(f, id, hostIds[index % 2] ?? "")),
  );
  expect(placed.filter(Boolean)).toHaveLength(16);
  expect(await listHostPorts(f)).toHaveLength(16);
  expect(await findHostPortFaults(f)).toEqual([]);
});

test("the database refuses a second set for a port, and rolls its booking back", async () => {
  const f = await start();
  const h1 = await enrollPublishing(f, "h1");
  await createService(f.ctx, f.tenantId, publishingBody("web", [true]));
  await f.placer.placeSets();
  const [taken] = await listHostPorts(f);
  await createService(f.ctx, f.tenantId, publishingBody("next", [true]));
  const waiting = (await listLiveSets(f)).find(({ host }) => host === null);
  const setId = waiting?.id ?? "";
  const booking = withTx(f.ctx.db, async (tx) => {
    await lockHosts(tx, [h1]);
    const overhead = { memoryBytes: 0, rootfsBytes: 0 };
    const placement = { placementId: newId("plc"), setId, hostId: h1, generation: 1, overhead };
    await commitPlacements(tx, [{ ...placement, score: 0, because: {} }], 1);
    const port = { hostId: h1, protocol: "tcp" as const, port: taken?.port ?? 0 };
    await insertHostPorts(tx, [{ ...port, setId, name: "p0" }]);
  });
  await expect(booking).rejects.toMatchObject({ meta: { constraint: "host_ports_pkey" } });
  expect((await listLiveSets(f)).find(({ id }) => id === setId)?.host).toBeNull();
});

test("job workers and removals together never give a port twice", async () => {
  const f = await start({ fixedHostPorts: [{ first: 1, last: 65_535 }] });
  const hostIds = [];
  for (const name of ["h1", "h2", "h3"])
    hostIds.push(await enrollPublishing(f, name, { allocatable: largeHost }, ["networks"]));
  await createService(f.ctx, f.tenantId, publishingBody("web", [true, true], 12));
  await createService(f.ctx, f.tenantId, publishingBody("edge", [{ hostPort: 20_000 }], 4));
  const placers = [f.placer, createPlacer(f.secondContext()), createPlacer(f.secondContext())];
  const holders = new Set<string>();
  for (let round = 0; round < 10; round++) {
    await f.ctx.db.execute(sql`update sets set plan_after = now() where host_id is null`);
    const running = await queryRows<{ id: string }>(
      f.ctx.db,
      sql`select id from sets where host_id is not null and desired = 'running' order by random() limit 4`,
    );
    await Promise.all([
      ...placers.map((placer) => placer.placeSets()),
      ...running.map(({ id }) => deleteSet(f.ctx, f.tenantId, id)),
      ...hostIds.map((hostId) => obeyOrders(f, hostId)),
    ]);
    await f.placer.placeSets();
    expect(await findHostPortFaults(f)).toEqual([]);
    expect(await findAddressFaults(f)).toEqual([]);
    for (const { host, port, setId } of await listHostPorts(f))
      holders.add(`${host} ${port} ${setId}`);
  }
  expect(holders.size).toBeGreaterThan(24 + 3 + 10);
  expect((await listAddresses(f)).length).toBeGreaterThan(0);
});
