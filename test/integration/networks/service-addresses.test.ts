import { sql } from "drizzle-orm";
import { expect, test } from "vitest";
import { createNetworkBody, patchNetworkBody } from "../../../src/contracts/api/networks.ts";
import { ServiceAddresses } from "../../../src/control/networks/assign-service-addresses.ts";
import { createNetwork } from "../../../src/control/networks/create-network.ts";
import { endQuarantines } from "../../../src/control/networks/end-quarantines.ts";
import { NetworkFeeds } from "../../../src/control/networks/network-feeds.ts";
import { patchNetwork } from "../../../src/control/networks/patch-network.ts";
import { readHostNetworks } from "../../../src/control/networks/read-host-networks.ts";
import { createPlacer } from "../../../src/control/placement/place-pending-sets.ts";
import { closeServices } from "../../../src/control/services/close-services.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { deleteService } from "../../../src/control/services/delete-service.ts";
import { getService } from "../../../src/control/services/get-service.ts";
import { patchService } from "../../../src/control/services/patch-service.ts";
import { scaleService } from "../../../src/control/services/scale-service.ts";
import { deleteSet } from "../../../src/control/sets/delete-set.ts";
import { createTenant } from "../../../src/control/tenancy/create-tenant.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { lockSubnetsOf } from "../../../src/db/queries/networks/networks.ts";
import { withTx } from "../../../src/db/transaction.ts";
import { type FleetContext, serviceBody, smallHost } from "../../support/fleet/fleet-context.ts";
import { fleetPerTest } from "../../support/fleet/fleet-per-test.ts";
import { listLiveSets, obeyOrders } from "../../support/fleet/live-sets.ts";
import {
  enrollNetworked,
  findAddressFaults,
  listAddresses,
} from "../../support/fleet/network-hosts.ts";
import { tenantBody } from "../../support/fleet/tenant-body.ts";

const start = fleetPerTest();
const largeHost = { ...smallHost, cpuMillis: 64_000, memoryBytes: 2 ** 38 };
const { signal } = new AbortController();

async function addNetwork(f: FleetContext, name: string, ...cidrs: string[]): Promise<string> {
  const subnets = cidrs.map((cidr) => ({ cidr }));
  return (await createNetwork(f.ctx, f.tenantId, createNetworkBody.parse({ name, subnets }))).id;
}

function body(name: string, networks: readonly string[], replicas = 1) {
  const { template, ...service } = serviceBody(name, { replicas });
  return {
    ...service,
    template: { ...template, networks: networks.map((network) => ({ network })) },
  };
}

const add = (f: FleetContext, ...args: Parameters<typeof body>) =>
  createService(f.ctx, f.tenantId, body(...args));

const addressesOf = async (f: FleetContext, name: string) =>
  (await getService(f.ctx, f.tenantId, name)).addresses;

/** Changes the networks of a service for new sets. */
async function changeNetworks(f: FleetContext, name: string, networks: string[]): Promise<void> {
  const { generation } = await getService(f.ctx, f.tenantId, name);
  const { template } = body(name, networks);
  await patchService(f.ctx, f.tenantId, name, generation, { template, adopt: "new-sets" });
}

async function patchSubnet(f: FleetContext, name: string, subnet: object): Promise<void> {
  const { subnets } = patchNetworkBody.parse({ subnets: [subnet] });
  const [row] = await queryRows<{ generation: number }>(
    f.ctx.db,
    sql`select generation::int as generation from networks where name = ${name}`,
  );
  await patchNetwork(f.ctx, f.tenantId, name, row?.generation, { subnets });
}

const countEvents = async (f: FleetContext) =>
  (await queryRows(f.ctx.db, sql`select 1 from events where kind = 'service-address-missing'`))
    .length;

test("a service has an address of each subnet of its networks, which its hosts learn", async () => {
  const f = await start();
  const h1 = await enrollNetworked(f, "h1");
  const front = await addNetwork(f, "front", "10.1.0.0/24", "fd01::/64");
  await addNetwork(f, "back", "10.2.0.0/24");
  await add(f, "web", ["front", "back"], 2);
  await f.placer.placeSets();
  await obeyOrders(f, h1);
  expect(await addressesOf(f, "web")).toEqual([]);
  f.signals.length = 0;
  const sweep = new ServiceAddresses(f.ctx);
  expect(await sweep.assign()).toBe(3);
  expect(f.signals).toContain(`network:${front}`);
  const expected = [
    { network: "back", addresses: ["10.2.0.4"] },
    { network: "front", addresses: ["10.1.0.4", "fd01::4"] },
  ];
  expect(await addressesOf(f, "web")).toEqual(expected);
  const query = { version: undefined, waitMs: 0 };
  const { networks } = await readHostNetworks(f.ctx, new NetworkFeeds(f.ctx), h1, query, signal);
  expect(networks).toMatchObject([
    { name: "front", services: [{ name: "web", addresses: ["10.1.0.4", "fd01::4"] }] },
    { name: "back", services: [{ name: "web", addresses: ["10.2.0.4"] }] },
  ]);
  // The address stays while the sets change, even without any.
  await scaleService(f.ctx, f.tenantId, "web", { replicas: 0 }, undefined);
  await obeyOrders(f, h1);
  await add(f, "other", ["front"]);
  await f.placer.placeSets();
  await sweep.assign();
  await sweep.audit();
  expect(await addressesOf(f, "web")).toEqual(expected);
  const after = await readHostNetworks(f.ctx, new NetworkFeeds(f.ctx), h1, query, signal);
  const web = after.networks?.[0]?.services.find(({ name }) => name === "web");
  expect(web).toMatchObject({ addresses: ["10.1.0.4", "fd01::4"], members: [] });
  expect(await findAddressFaults(f)).toEqual([]);
});

test("services that exist get addresses with the first networked host, and none before", async () => {
  const f = await start();
  await f.enroll("h1");
  await add(f, "web", ["default"]);
  await f.placer.placeSets();
  const sweep = new ServiceAddresses(f.ctx);
  expect(await sweep.assign()).toBe(0);
  const beta = await createTenant(f.ctx, tenantBody("beta"));
  await createService(f.ctx, beta.id, body("web", ["default"]));
  await enrollNetworked(f, "h2");
  // It creates the network of each tenant, even if no set is placed.
  expect(await sweep.assign()).toBe(2);
  const expected = [{ network: "default", addresses: ["10.64.0.2"] }];
  expect(await addressesOf(f, "web")).toEqual(expected);
  expect((await getService(f.ctx, beta.id, "web")).addresses).toEqual(expected);
  const locks = () => queryRows(f.ctx.db, sql`select xmax::text from services order by id`);
  const before = await locks();
  expect(await sweep.assign()).toBe(0);
  expect(await locks()).toEqual(before);
});

test("an event says once that no address is free, and the service gets one later", async () => {
  const f = await start();
  const h1 = await enrollNetworked(f, "h1", { allocatable: largeHost });
  await addNetwork(f, "net", "10.1.0.0/29");
  await add(f, "full", ["net"], 5);
  await f.placer.placeSets();
  await add(f, "web", ["net"]);
  const sweep = new ServiceAddresses(f.ctx);
  for (let run = 0; run < 3; run++) {
    expect(await sweep.assign()).toBe(0);
    expect(await sweep.audit()).toBe(0);
  }
  expect(await countEvents(f)).toBe(2);
  await scaleService(f.ctx, f.tenantId, "full", { replicas: 3 }, undefined);
  await obeyOrders(f, h1);
  expect(await sweep.audit()).toBe(0); // still in quarantine
  await endQuarantines(f.ctx, undefined, { seconds: 0 });
  expect(await sweep.audit()).toBe(2);
  expect(await addressesOf(f, "web")).toMatchObject([{ network: "net" }]);
  expect(await countEvents(f)).toBe(2);
  expect(await findAddressFaults(f)).toEqual([]);
});

test("a deleted service leaves its address in quarantine, and no other service gets it", async () => {
  const f = await start();
  await enrollNetworked(f, "h1");
  await addNetwork(f, "net", "10.1.0.0/29");
  const sweep = new ServiceAddresses(f.ctx);
  await add(f, "web", ["net"], 0);
  await sweep.assign();
  await deleteService(f.ctx, f.tenantId, "web", undefined);
  await closeServices(f.ctx);
  expect(await listAddresses(f)).toMatchObject([{ address: "10.1.0.2", state: "quarantined" }]);
  for (let index = 0; index < 5; index++) await add(f, `s${index}`, ["net"], 0);
  expect(await sweep.assign()).toBe(4);
  const assigned = (await listAddresses(f)).filter(({ state }) => state === "assigned");
  expect(assigned.map(({ address }) => address)).not.toContain("10.1.0.2");
  await endQuarantines(f.ctx, undefined, { seconds: 0 });
  expect(await sweep.audit()).toBe(1);
  expect(await findAddressFaults(f)).toEqual([]);
});

test("a service leaves a network after its last set there, and returns to the same address", async () => {
  const f = await start();
  const h1 = await enrollNetworked(f, "h1");
  await addNetwork(f, "old", "10.1.0.0/24");
  await addNetwork(f, "new", "10.2.0.0/24");
  const sweep = new ServiceAddresses(f.ctx);
  const run = async () => {
    await sweep.audit();
    await sweep.assign();
  };
  await add(f, "web", ["old"]);
  await f.placer.placeSets();
  await run();
  const before = { network: "old", addresses: ["10.1.0.3"] };
  expect(await addressesOf(f, "web")).toEqual([before]);
  await changeNetworks(f, "web", ["new"]);
  await run();
  const next = { network: "new", addresses: ["10.2.0.2"] };
  expect(await addressesOf(f, "web")).toEqual([next, before]);
  const [set] = await listLiveSets(f);
  await deleteSet(f.ctx, null, set?.id ?? "");
  await f.placer.placeSets();
  await obeyOrders(f, h1);
  await run();
  expect(await addressesOf(f, "web")).toEqual([next]);
  await changeNetworks(f, "web", ["old"]);
  await run();
  expect(await addressesOf(f, "web")).toEqual([next, before]);
  expect(await findAddressFaults(f)).toEqual([]);
});

test("a change of a network respects service addresses, or replaces those of removed subnets", async () => {
  const f = await start();
  await enrollNetworked(f, "h1");
  await addNetwork(f, "net", "10.1.0.0/24");
  const sweep = new ServiceAddresses(f.ctx);
  await add(f, "web", ["net"], 0);
  await sweep.assign();
  await expect(
    patchSubnet(f, "net", { cidr: "10.1.0.0/24", reservations: ["10.1.0.2"] }),
  ).rejects.toThrow(
    "Service web has the service address 10.1.0.2 of subnet 10.1.0.0/24, which this change excludes. Delete the service first, or keep the address in the pools and out of the reservations.",
  );
  await patchSubnet(f, "net", { cidr: "10.1.0.0/24", gateway: "10.1.0.254" });
  expect(await addressesOf(f, "web")).toEqual([{ network: "net", addresses: ["10.1.0.2"] }]);
  await patchSubnet(f, "net", { cidr: "10.9.0.0/24" });
  expect(await addressesOf(f, "web")).toEqual([]);
  await sweep.audit();
  await sweep.assign();
  expect(await addressesOf(f, "web")).toEqual([{ network: "net", addresses: ["10.9.0.2"] }]);
  expect(await findAddressFaults(f)).toEqual([]);
});

test("a locked subnet or service delays no other service, and gets its turn later", async () => {
  const f = await start();
  await enrollNetworked(f, "h1");
  const busy = await addNetwork(f, "busy", "10.1.0.0/24");
  await addNetwork(f, "free", "10.2.0.0/24");
  await add(f, "a", ["busy"], 0);
  await add(f, "b", ["free"], 0);
  const sweep = new ServiceAddresses(f.ctx);
  const other = f.secondContext();
  await withTx(other.db, async (tx) => {
    await lockSubnetsOf(tx, busy);
    expect(await sweep.assign()).toBe(1);
  });
  expect(await addressesOf(f, "b")).toEqual([{ network: "free", addresses: ["10.2.0.2"] }]);
  expect(await countEvents(f)).toBe(0);
  expect(await sweep.assign()).toBe(1);
  expect(await addressesOf(f, "a")).toEqual([{ network: "busy", addresses: ["10.1.0.2"] }]);
});

test("I18: sets and services that compete for addresses never share one", async () => {
  const f = await start();
  const hostIds = [];
  for (const name of ["h1", "h2", "h3"])
    hostIds.push(await enrollNetworked(f, name, { allocatable: largeHost }));
  await addNetwork(f, "net", "10.1.0.0/27");
  await add(f, "load", ["net"], 20);
  const others = [f.secondContext(), f.secondContext()];
  const placers = [f.placer, ...others.map((ctx) => createPlacer(ctx))];
  const sweeps = [f.ctx, ...others].map((ctx) => new ServiceAddresses(ctx));
  let served = 0;
  for (let round = 0; round < 12; round++) {
    await f.ctx.db.execute(sql`update sets set plan_after = now() where host_id is null`);
    for (const place of [0, 1, 2]) await add(f, `s${round}-${place}`, ["net"], 0);
    const running = await queryRows<{ id: string }>(
      f.ctx.db,
      sql`select id from sets where host_id is not null and desired = 'running' order by random() limit 6`,
    );
    const deleted = round < 2 ? [] : [0, 1, 2].map((place) => `s${round - 2}-${place}`);
    await Promise.all([
      ...placers.map((placer) => placer.placeSets()),
      ...sweeps.map((sweep) => sweep.assign()),
      ...sweeps.map((sweep) => sweep.audit()),
      ...running.map(({ id }) => deleteSet(f.ctx, f.tenantId, id)),
      ...deleted.map(async (name) => {
        await deleteService(f.ctx, f.tenantId, name, undefined);
        await closeServices(f.ctx);
      }),
      ...hostIds.map((hostId) => obeyOrders(f, hostId)),
      endQuarantines(f.ctx, undefined, { seconds: 0 }),
    ]);
    expect(await findAddressFaults(f)).toEqual([]);
    served += (await listAddresses(f)).filter((each) => each.service?.startsWith("s")).length;
  }
  expect(served).toBeGreaterThan(12);
});
