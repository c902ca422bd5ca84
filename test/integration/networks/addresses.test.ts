import { sql } from "drizzle-orm";
import { expect, test } from "vitest";
import { desiredSetSchema } from "../../../src/contracts/agent-protocol/desired-set.ts";
import { omitUnsupportedSets } from "../../../src/control/hosts/omit-unsupported-sets.ts";
import { formatAddress } from "../../../src/lib/ip/ip-address.ts";
import { createNetworkBody } from "../../../src/contracts/api/networks.ts";
import { createNetwork } from "../../../src/control/networks/create-network.ts";
import { deleteNetwork } from "../../../src/control/networks/delete-network.ts";
import {
  listFreeAddressCounts,
  endQuarantines,
} from "../../../src/control/networks/end-quarantines.ts";
import { createMover } from "../../../src/control/operations/move-sets.ts";
import { deleteHost } from "../../../src/control/hosts/delete-host.ts";
import { replaceSetsOfLostHosts } from "../../../src/control/hosts/replace-sets-of-lost-hosts.ts";
import { drainHost } from "../../../src/control/hosts/drain-host.ts";
import { restoreVolume } from "../../../src/control/volumes/restore-volume.ts";
import { assert } from "../../../src/lib/assert.ts";
import { newId } from "../../../src/lib/ids.ts";
import { reconcileService } from "../../../src/control/replicas/reconcile-replicas.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { deleteService } from "../../../src/control/services/delete-service.ts";
import { patchService } from "../../../src/control/services/patch-service.ts";
import { controlSet } from "../../../src/control/sets/control-set.ts";
import { deleteSet } from "../../../src/control/sets/delete-set.ts";
import { explainSet } from "../../../src/control/sets/explain-set.ts";
import { createServicePlanner } from "../../../src/control/dry-run/plan-service.ts";
import type { PlaceOutcome } from "../../../src/control/placement/place-pending-sets.ts";
import { findFreeAddresses } from "../../../src/db/queries/networks/assign-addresses.ts";
import { withTx } from "../../../src/db/transaction.ts";
import { waitForLockWait } from "../../support/fleet/lock-waits.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import {
  type FleetContext,
  observed,
  serviceBody,
  smallHost,
} from "../../support/fleet/fleet-context.ts";
import { rowsReadOf } from "../../support/fleet/rows-read.ts";
import { fleetPerTest } from "../../support/fleet/fleet-per-test.ts";
import { listLiveSets, obeyOrders } from "../../support/fleet/live-sets.ts";
import {
  enrollNetworked,
  findAddressFaults,
  listAddresses,
  setFeatures,
} from "../../support/fleet/network-hosts.ts";
import { seededRandom } from "../../support/seeded-random.ts";
import { trashed, volumeOf } from "../../support/fleet/trashed-volume.ts";

const start = fleetPerTest();

function withNetworks(name: string, networks: string[], replicas = 1) {
  const { template } = serviceBody(name);
  const body = serviceBody(name, { replicas });
  return { ...body, template: { ...template, networks: networks.map((network) => ({ network })) } };
}

async function addNetwork(f: FleetContext, name: string, ...cidrs: string[]): Promise<void> {
  const subnets = cidrs.map((cidr) => ({ cidr }));
  await createNetwork(f.ctx, f.tenantId, createNetworkBody.parse({ name, subnets }));
}

const smallNetwork = createNetworkBody.parse({
  name: "small",
  subnets: [{ cidr: "10.1.0.0/29" }],
}).subnets;
const largeHost = { ...smallHost, cpuMillis: 16_000, memoryBytes: 2 ** 36 };

const assigned = async (f: FleetContext) =>
  (await listAddresses(f)).filter(({ state }) => state === "assigned");

test("a set on a host without networks has no address, and creates no network", async () => {
  const f = await start();
  await f.enroll("h1");
  await createService(f.ctx, f.tenantId, serviceBody("web", { replicas: 2 }));
  expect(await f.placer.placeSets()).toMatchObject({ placed: 2 });
  expect(await listAddresses(f)).toEqual([]);
  expect(await queryRows(f.ctx.db, sql`select 1 from networks`)).toEqual([]);
});

test("the first set on a host with networks creates the default network, and gets its address", async () => {
  const f = await start();
  await enrollNetworked(f, "h1");
  await createService(f.ctx, f.tenantId, serviceBody("web"));
  await f.placer.placeSets();
  const [set] = await listLiveSets(f);
  expect(await listAddresses(f)).toEqual([
    {
      network: "default",
      address: "10.64.0.2",
      setId: set?.id,
      mac: "0a:00:0a:40:00:02",
      networkIndex: 0,
      service: null,
      state: "assigned",
    },
  ]);
  await createService(f.ctx, f.tenantId, serviceBody("db", { replicas: 3 }));
  await f.placer.placeSets();
  expect((await assigned(f)).map(({ address }) => address)).toEqual(
    [2, 3, 4, 5].map((number) => `10.64.0.${number}`),
  );
  expect(await findAddressFaults(f)).toEqual([]);
});

test("a set has an address in each subnet of its networks", async () => {
  const f = await start();
  await enrollNetworked(f, "h1");
  await addNetwork(f, "front", "10.1.0.0/24", "fd01::/64");
  await addNetwork(f, "back", "fd02::/64");
  await createService(f.ctx, f.tenantId, withNetworks("web", ["back", "front"]));
  expect(await f.placer.placeSets()).toMatchObject({ placed: 1 });
  expect(await assigned(f)).toMatchObject([
    { network: "front", address: "10.1.0.2", networkIndex: 1, mac: "0a:00:0a:01:00:02" },
    { network: "front", address: "fd01::2", networkIndex: 1, mac: "0a:00:0a:01:00:02" },
    { network: "back", address: "fd02::2", networkIndex: 0, mac: "0a:06:00:00:00:02" },
  ]);
});

test("an address stays with its set until the set has left its host, then it is quarantined", async () => {
  const f = await start();
  const h1 = await enrollNetworked(f, "h1");
  await createService(f.ctx, f.tenantId, serviceBody("web"));
  await f.placer.placeSets();
  await obeyOrders(f, h1);
  await deleteService(f.ctx, f.tenantId, "web", undefined);
  expect(await assigned(f)).toHaveLength(1);
  await obeyOrders(f, h1);
  expect(await listAddresses(f)).toMatchObject([{ address: "10.64.0.2", state: "quarantined" }]);
  expect(await endQuarantines(f.ctx)).toBe(0);
  await f.ctx.db.execute(
    sql`update addresses set quarantined_at = quarantined_at - interval '601 s'`,
  );
  expect(await endQuarantines(f.ctx)).toBe(1);
  expect(await findAddressFaults(f)).toEqual([]);
  await createService(f.ctx, f.tenantId, serviceBody("next"));
  await f.placer.placeSets();
  // The free addresses take turns, so an address is used again as late as possible.
  expect(await assigned(f)).toMatchObject([{ address: "10.64.0.3" }]);
});

test("an exhausted subnet is a counted reason, and its sets go elsewhere if they may", async () => {
  const f = await start();
  await enrollNetworked(f, "h1", { allocatable: largeHost });
  await enrollNetworked(f, "h2", { allocatable: largeHost });
  await addNetwork(f, "small", "10.1.0.0/29");
  await createService(f.ctx, f.tenantId, withNetworks("web", ["small"], 6));
  expect(await f.placer.placeSets()).toMatchObject({ placed: 5, rejected: 1, conflicts: 0 });
  expect((await assigned(f)).map(({ address }) => address)).toEqual(
    [2, 3, 4, 5, 6].map((number) => `10.1.0.${number}`),
  );
  const waiting = (await listLiveSets(f)).find(({ host }) => host === null);
  const { rejection } = await explainSet(f.ctx, f.tenantId, waiting?.id ?? "");
  expect(rejection?.reasons).toEqual([{ reason: "subnet-exhausted", hosts: 2 }]);
  expect(await listFreeAddressCounts(f.ctx)).toEqual([
    { tenant: "food", network: "small", family: 4, free: 0 },
  ]);
  await f.enroll("h3");
  await f.ctx.db.execute(sql`update sets set plan_after = now()`);
  expect(await f.placer.placeSets()).toMatchObject({ placed: 0, rejected: 1 });
  const again = await explainSet(f.ctx, f.tenantId, waiting?.id ?? "");
  expect(again.rejection?.reasons).toEqual([
    { reason: "subnet-exhausted", hosts: 2 },
    { reason: "networks-unavailable", hosts: 1 },
  ]);
});

test("a set with the default network only runs without an address when the network is full", async () => {
  const f = await start({ defaultNetworkSubnets: smallNetwork });
  await enrollNetworked(f, "h1");
  await enrollNetworked(f, "h2");
  await f.enroll("h3");
  await createService(f.ctx, f.tenantId, serviceBody("web", { replicas: 9 }));
  expect(await f.placer.placeSets()).toMatchObject({ placed: 9, rejected: 0 });
  const onBare = (await listLiveSets(f)).filter(({ host }) => host === "h3");
  expect(onBare).toHaveLength(4);
  expect(await assigned(f)).toHaveLength(5);
  expect(await findAddressFaults(f)).toEqual([]);
});

test("a set that is placed again keeps its address, even in an exhausted subnet", async () => {
  const f = await start();
  const h1 = await enrollNetworked(f, "h1");
  await addNetwork(f, "small", "10.1.0.0/29");
  await createService(f.ctx, f.tenantId, withNetworks("web", ["small"], 4));
  await f.placer.placeSets();
  await createService(f.ctx, f.tenantId, withNetworks("last", ["small"]));
  await enrollNetworked(f, "h2");
  await f.placer.placeSets();
  await obeyOrders(f, h1);
  const [moving] = (await listLiveSets(f)).filter(({ host }) => host === "h1");
  const before = (await assigned(f)).find(({ setId }) => setId === moving?.id);
  // A stopped set moves as the same set, on a claim.
  await controlSet(f.ctx, f.tenantId, moving?.id ?? "", "stop");
  await obeyOrders(f, h1);
  const mover = createMover(f.ctx);
  await drainHost(f.ctx, h1);
  await mover.moveSets();
  await obeyOrders(f, h1);
  expect((await listAddresses(f)).filter(({ state }) => state === "quarantined")).toEqual([
    { ...before, state: "quarantined" },
  ]);
  await mover.moveSets();
  expect((await listLiveSets(f)).find(({ id }) => id === moving?.id)).toMatchObject({ host: "h2" });
  expect((await assigned(f)).find(({ setId }) => setId === moving?.id)).toEqual(before);
  expect(await findAddressFaults(f)).toEqual([]);
});

test("a set whose start failed keeps its address on the next host", async () => {
  const f = await start();
  const h1 = await enrollNetworked(f, "h1");
  await addNetwork(f, "small", "10.1.0.0/29");
  await createService(f.ctx, f.tenantId, withNetworks("web", ["small"]));
  await f.placer.placeSets();
  const [before] = await assigned(f);
  const [set] = (await f.sync(h1, { full: true })).sets;
  assert(set, "the host has a set to run");
  await f.sync(h1, { observed: [observed(set, "failed", { gaveUp: true })] });
  await enrollNetworked(f, "h2");
  await createService(f.ctx, f.tenantId, withNetworks("others", ["small"], 4));
  expect(await f.placer.placeSets()).toMatchObject({ placed: 4 });
  await obeyOrders(f, h1);
  await f.ctx.db.execute(sql`update sets set plan_after = now() where host_id is null`);
  expect(await listFreeAddressCounts(f.ctx)).toMatchObject([{ free: 0 }]);
  expect(await f.placer.placeSets()).toMatchObject({ placed: 1, rejected: 0 });
  expect((await assigned(f)).find(({ setId }) => setId === set.setId)).toEqual(before);
  expect(await findAddressFaults(f)).toEqual([]);
});

test("the set of a restored volume gets an address, or the restore says that none is free", async () => {
  const f = await start({ defaultNetworkSubnets: smallNetwork });
  const allocatable = { ...largeHost, volumeBytes: 2 ** 40 };
  const hostId = await enrollNetworked(f, "h1", { allocatable });
  const { template } = serviceBody("db");
  const volume = { sizeBytes: 2 ** 30, mountPath: "/data" };
  const body = { ...serviceBody("db", { replicas: 0 }), template: { ...template, volume } };
  await createService(f.ctx, f.tenantId, body);
  const volumes = [newId("set"), newId("set")].map((setId) => volumeOf(setId, trashed));
  const volumeIds = volumes.map(({ volumeId }) => volumeId);
  await f.sync(hostId, { volumes });
  const restored = await restoreVolume(f.ctx, null, volumeIds[0] ?? "");
  expect(await assigned(f)).toMatchObject([{ setId: restored.id, address: "10.1.0.2" }]);
  await createService(f.ctx, f.tenantId, serviceBody("web", { replicas: 4 }));
  expect(await f.placer.placeSets()).toMatchObject({ placed: 4 });
  await expect(restoreVolume(f.ctx, null, volumeIds[1] ?? "")).rejects.toMatchObject({
    code: "state-conflict",
    publicDetail: expect.stringContaining("no free address"),
  });
  expect(await findAddressFaults(f)).toEqual([]);
});

test("the addresses of a lost host stay with its sets until the host is deleted", async () => {
  const f = await start({ hostLostGraceMs: 0 });
  const lost = await enrollNetworked(f, "h1");
  await createService(f.ctx, f.tenantId, serviceBody("web", { replicas: 2 }));
  await f.placer.placeSets();
  await obeyOrders(f, lost);
  const before = await assigned(f);
  await enrollNetworked(f, "h2");
  await f.ctx.db.execute(
    sql`update hosts set lease_expires_at = now() - interval '1 h' where id = ${lost}`,
  );
  expect(await replaceSetsOfLostHosts(f.ctx)).toMatchObject({ lost: 1, replacedSets: 2 });
  await f.placer.placeSets();
  const addresses = (await assigned(f)).map(({ address }) => address);
  expect(addresses).toEqual([2, 3, 4, 5].map((number) => `10.64.0.${number}`));
  await deleteHost(f.ctx, lost, { confirm: lost });
  expect((await assigned(f)).map(({ address }) => address)).toEqual(["10.64.0.4", "10.64.0.5"]);
  const quarantined = (await listAddresses(f)).filter(({ state }) => state === "quarantined");
  expect(quarantined).toEqual(before.map((address) => ({ ...address, state: "quarantined" })));
  expect(await findAddressFaults(f)).toEqual([]);
});

test("a network stays while a set has a revision that uses it", async () => {
  const f = await start();
  await f.enroll("h1");
  await addNetwork(f, "old", "10.1.0.0/24");
  await createService(f.ctx, f.tenantId, withNetworks("web", ["old"]));
  const { template } = withNetworks("web", ["default"]);
  await patchService(f.ctx, f.tenantId, "web", 1, { template, adopt: "new-sets" });
  expect(await f.placer.placeSets()).toMatchObject({ rejected: 1 });
  await expect(deleteNetwork(f.ctx, f.tenantId, "old")).rejects.toMatchObject({
    code: "state-conflict",
  });
  await deleteService(f.ctx, f.tenantId, "web", undefined);
  await deleteNetwork(f.ctx, f.tenantId, "old");
});

test("a service leaves an exhausted subnet by new sets, as the runbook says", async () => {
  const f = await start();
  const h1 = await enrollNetworked(f, "h1", { allocatable: largeHost });
  await addNetwork(f, "small", "10.1.0.0/29");
  await addNetwork(f, "large", "10.2.0.0/16");
  const { service } = await createService(f.ctx, f.tenantId, withNetworks("web", ["small"], 6));
  expect(await f.placer.placeSets()).toMatchObject({ placed: 5, rejected: 1 });
  await obeyOrders(f, h1);
  const { template } = withNetworks("web", ["large"]);
  await patchService(f.ctx, f.tenantId, "web", 1, { template, adopt: "new-sets" });
  for (const { id } of await listLiveSets(f)) await deleteSet(f.ctx, f.tenantId, id);
  await obeyOrders(f, h1);
  await reconcileService(f.ctx, service.id);
  expect(await f.placer.placeSets()).toMatchObject({ placed: 6, rejected: 0 });
  expect(new Set((await assigned(f)).map(({ network }) => network))).toEqual(new Set(["large"]));
});

test("an agent gets the attachments of its sets, even after its rollback", async () => {
  const f = await start();
  const hostId = await enrollNetworked(f, "h1");
  await addNetwork(f, "front", "10.1.0.0/24", "fd01::/64");
  await createService(f.ctx, f.tenantId, withNetworks("web", ["default", "front"]));
  await f.placer.placeSets();
  const read = async () => (await f.sync(hostId, { full: true })).sets;
  const networks = await queryRows<{ id: string; vni: number }>(
    f.ctx.db,
    sql`select id, vni from networks order by name`,
  );
  const [byDefault, front] = networks;
  const attachments = [
    {
      networkId: byDefault?.id,
      vni: byDefault?.vni,
      interface: "eth0",
      mac: "0a:00:0a:40:00:02",
      addresses: ["10.64.0.2/16"],
      gateways: ["10.64.0.1"],
    },
    {
      networkId: front?.id,
      vni: front?.vni,
      interface: "eth1",
      mac: "0a:00:0a:01:00:02",
      addresses: ["10.1.0.2/24", "fd01::2/64"],
      gateways: ["10.1.0.1", "fd01::1"],
    },
  ];
  const [set] = await read();
  // They name no MTU: that of a host depends on its underlay, and its driver has the setting.
  expect(set).toHaveProperty("attachments", attachments);
  expect(desiredSetSchema.parse(set)).toEqual(set);
  // Without them, an agent that does not know them would start the set on Docker's bridge.
  await setFeatures(f, hostId, []);
  expect(await read()).toMatchObject([{ attachments }]);
  expect(omitUnsupportedSets({ ...(await f.sync(hostId, { full: true })) }).sets).toEqual([]);
  await createService(f.ctx, f.tenantId, serviceBody("bare"));
  await f.placer.placeSets();
  const bare = (await read()).find(({ service }) => service === "bare");
  expect(bare).toBeDefined();
  expect(bare).not.toHaveProperty("attachments");
});

test("Postgres writes addresses as Berth formats them", async () => {
  const f = await start();
  const random = seededRandom(11);
  // The subnets of networks are in 2000::/3 and fc00::/7.
  const words = () =>
    Array.from({ length: 8 }, (_, place) =>
      place === 0 ? 0x2600 : random() < 0.6 ? 0 : Math.floor(random() * 65_536),
    );
  const texts = Array.from({ length: 500 }, () => {
    const value = words().reduce((sum, word) => (sum << 16n) | BigInt(word), 0n);
    return formatAddress({ family: 6, value });
  });
  const rows = await queryRows<{ text: string }>(
    f.ctx.db,
    sql`select host(value::inet) as text from json_array_elements_text(${JSON.stringify(texts)}::json)`,
  );
  expect(rows.map(({ text }) => text)).toEqual(texts);
});

test("a template names networks of its tenant only, each once", async () => {
  const f = await start();
  await addNetwork(f, "front", "10.1.0.0/24");
  await expect(
    createService(f.ctx, f.tenantId, withNetworks("web", ["front", "back"])),
  ).rejects.toMatchObject({
    code: "invalid-request",
    errors: [{ pointer: "/template/networks/1/network", detail: expect.stringContaining("back") }],
  });
  await createService(f.ctx, f.tenantId, withNetworks("web", ["default", "front"]));
  const { template } = withNetworks("web", ["back"]);
  await expect(patchService(f.ctx, f.tenantId, "web", 1, { template })).rejects.toMatchObject({
    code: "invalid-request",
  });
  expect(() =>
    serviceBody("twice", {
      template: {
        cpu: 1,
        memory: "1Gi",
        networks: [{ network: "a" }, { network: "a" }],
        containers: [],
      },
    }),
  ).toThrow(/named twice/);
  await expect(deleteNetwork(f.ctx, f.tenantId, "front")).rejects.toMatchObject({
    code: "state-conflict",
    publicDetail: expect.stringContaining("web"),
  });
});

test("a dry run plans with the free addresses, and assigns none", async () => {
  const f = await start();
  await enrollNetworked(f, "h1", { allocatable: largeHost });
  await enrollNetworked(f, "h2", { allocatable: largeHost });
  await addNetwork(f, "small", "10.1.0.0/29");
  const planner = createServicePlanner(f.ctx);
  const service = withNetworks("web", ["small"], 7);
  const result = await planner.plan(f.tenantId, { kind: "create", service });
  expect(result).toMatchObject({
    placed: 5,
    rejected: 2,
    reasons: [{ reason: "subnet-exhausted", hosts: 2 }],
  });
  expect(
    await planner.plan(f.tenantId, { kind: "create", service: serviceBody("any") }),
  ).toMatchObject({
    placed: 1,
  });
  expect(await listAddresses(f)).toEqual([]);
});

test("a set that is deleted before its placement commits leaves no address", async () => {
  const f = await start();
  await enrollNetworked(f, "h1");
  await createService(f.ctx, f.tenantId, serviceBody("web", { replicas: 3 }));
  const [first] = await listLiveSets(f);
  let run: Promise<PlaceOutcome> | undefined;
  await withTx(f.ctx.db, async (tx) => {
    await tx.execute(
      sql`update sets set desired = 'deleted', state = 'stopped', deleted_at = now() where id = ${first?.id}`,
    );
    run = f.placer.placeSets();
    await waitForLockWait(f.ctx.db, "the set's row is waited for");
  });
  expect(await run).toMatchObject({ placed: 2, conflicts: 1 });
  expect((await assigned(f)).map(({ setId }) => setId)).not.toContain(first?.id);
  expect(await assigned(f)).toHaveLength(2);
  expect(await findAddressFaults(f)).toEqual([]);
});

test("the search reads few of many unavailable addresses", async () => {
  const f = await start();
  await addNetwork(f, "net", "10.1.0.0/16", "fd01::/64");
  await f.ctx.db.execute(
    sql`insert into addresses (subnet_id, address, set_id, network_index, mac)
        select id, case family when 4 then '10.1.0.0'::inet else 'fd01::'::inet end + n, 'set_' || n, 0, ''
        from subnets, generate_series(1000, 40000) n`,
  );
  await f.ctx.db.execute(sql`update subnets set last_offset = 20000 where family = 4`);
  await f.ctx.db.execute(sql`analyze addresses`);
  const subnets = await queryRows<{ id: string; family: number }>(
    f.ctx.db,
    sql`select id, family from subnets order by family`,
  );
  const [full, free] = subnets.map(({ id }) => id);
  await withTx(f.ctx.db, async (tx) => {
    const found = await findFreeAddresses(tx, [{ subnetId: free ?? "", count: 900 }]);
    expect(found[0]?.offsets).toHaveLength(900);
    expect(await rowsReadOf(tx, "addresses")).toBeLessThan(10);
  });
  await withTx(f.ctx.db, async (tx) => {
    const found = await findFreeAddresses(tx, [{ subnetId: full ?? "", count: 3 }]);
    expect(found[0]?.offsets).toEqual([40_001, 40_002, 40_003]);
    expect(await rowsReadOf(tx, "addresses")).toBeLessThan(20_010);
  });
});

test("the search returns the next free addresses of the ranges, in turn", async () => {
  const f = await start();
  await addNetwork(f, "net", "10.1.0.0/27");
  const [subnet] = await queryRows<{ id: string }>(f.ctx.db, sql`select id from subnets`);
  const subnetId = subnet?.id ?? "";
  const random = seededRandom(7);
  const pick = (max: number) => Math.floor(random() * (max + 1));
  for (let round = 0; round < 80; round++) {
    const [a, b, c, d] = [pick(31), pick(31), pick(31), pick(31)].sort((x, y) => x - y) as [
      number,
      number,
      number,
      number,
    ];
    const ranges =
      c > b + 1
        ? [
            [a, b],
            [c, d],
          ]
        : [[a, d]];
    const lastOffset = pick(31);
    const unavailable = Array.from({ length: 32 }, (_, offset) => offset).filter(
      () => random() < 0.6,
    );
    await f.ctx.db.execute(sql`delete from addresses`);
    await f.ctx.db.execute(
      sql`update subnets set ranges = ${JSON.stringify(ranges)}::jsonb, last_offset = ${lastOffset}`,
    );
    await f.ctx.db.execute(
      sql`insert into addresses (subnet_id, address, set_id, network_index, mac)
          select ${subnetId}, '10.1.0.0'::inet + value::int, 'set_' || value, 0, '' from json_array_elements_text(${JSON.stringify(unavailable)}::json)`,
    );
    const inTurn = Array.from({ length: 32 }, (_, step) => (lastOffset + 1 + step) % 32);
    const expected = inTurn.filter(
      (offset) =>
        !unavailable.includes(offset) &&
        ranges.some(([first = 0, last = 0]) => first <= offset && offset <= last),
    );
    const count = 1 + pick(12);
    const found = await findFreeAddresses(f.ctx.db, [{ subnetId, count }]);
    expect(found).toEqual([{ subnetId, offsets: expected.slice(0, count) }]);
  }
});
