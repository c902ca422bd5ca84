import { sql } from "drizzle-orm";
import { expect, test } from "vitest";
import { createNetworkBody } from "../../../src/contracts/api/networks.ts";
import { createServiceBody } from "../../../src/contracts/api/services.ts";
import { drainHost } from "../../../src/control/hosts/drain-host.ts";
import { createNetwork } from "../../../src/control/networks/create-network.ts";
import { patchNetwork } from "../../../src/control/networks/patch-network.ts";
import { createMover } from "../../../src/control/operations/move-sets.ts";
import { reconcileService } from "../../../src/control/replicas/reconcile-replicas.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { deleteService } from "../../../src/control/services/delete-service.ts";
import { patchService } from "../../../src/control/services/patch-service.ts";
import { scaleService } from "../../../src/control/services/scale-service.ts";
import { deleteSet } from "../../../src/control/sets/delete-set.ts";
import { explainSet } from "../../../src/control/sets/explain-set.ts";
import { type FleetContext, serviceBody, smallHost } from "../../support/fleet/fleet-context.ts";
import { fleetPerTest } from "../../support/fleet/fleet-per-test.ts";
import { obeyOrders } from "../../support/fleet/live-sets.ts";
import {
  enrollNetworked,
  findAddressFaults,
  listAddresses,
} from "../../support/fleet/network-hosts.ts";

const start = fleetPerTest();

function at(service: string, address: string | undefined, network = "web", replicas = 1) {
  const { template, ...body } = serviceBody(service, { replicas });
  const entry = address === undefined ? { network } : { network, address };
  return { ...body, template: { ...template, networks: [entry] } };
}

/** The live sets, oldest first. */
function listSets(
  f: FleetContext,
): Promise<{ id: string; service: string; serviceId: string; host: string | null }[]> {
  return queryRows(
    f.ctx.db,
    sql`select s.id, v.name as service, v.id as "serviceId", h.name as host
        from sets s join services v on v.id = s.service_id left join hosts h on h.id = s.host_id
        where s.deleted_at is null order by s.id`,
  );
}

async function addNetwork(f: FleetContext, subnets: object[]): Promise<void> {
  const body = createNetworkBody.parse({ name: "web", subnets });
  await createNetwork(f.ctx, f.tenantId, body);
}

async function place(f: FleetContext): Promise<{ placed: number; rejected: number }> {
  await f.ctx.db.execute(sql`update sets set plan_after = now() where host_id is null`);
  const { placed, rejected, conflicts } = await f.placer.placeSets();
  expect(conflicts).toBe(0);
  return { placed, rejected };
}

async function assigned(f: FleetContext): Promise<string[]> {
  expect(await findAddressFaults(f)).toEqual([]);
  const rows = await listAddresses(f);
  return rows.filter(({ state }) => state === "assigned").map(({ address }) => address);
}

test("a set gets the static address of its template, and a free one of the other family", async () => {
  const f = await start();
  await enrollNetworked(f, "h1", {
    allocatable: { ...smallHost, cpuMillis: 64_000, memoryBytes: 2 ** 38 },
  });
  await f.enroll("h2");
  await addNetwork(f, [{ cidr: "10.1.0.0/24" }, { cidr: "fd00:1::/64" }]);
  await createService(f.ctx, f.tenantId, at("db", "10.1.0.3"));
  await createService(f.ctx, f.tenantId, at("web", undefined, "web", 3));
  await createService(f.ctx, f.tenantId, at("six", "fd00:1::77"));
  await createService(f.ctx, f.tenantId, at("home", "10.64.0.9", "default"));
  expect(await place(f)).toEqual({ placed: 6, rejected: 0 });
  const rows = await listAddresses(f);
  const byService = async (name: string) => {
    const sets = (await listSets(f)).filter(({ service }) => service === name);
    const ids = new Set(sets.map(({ id }) => id));
    return rows.filter(({ setId }) => ids.has(setId ?? "")).map(({ address }) => address);
  };
  const db = await byService("db");
  expect(db[0]).toBe("10.1.0.3");
  expect(db[1]).toMatch(/^fd00:1::/);
  expect(await byService("six")).toContain("fd00:1::77");
  expect(await byService("home")).toEqual(["10.64.0.9"]);
  const web = await byService("web");
  expect(web).not.toContain("10.1.0.3");
  expect(web).toHaveLength(6);
  expect(await assigned(f)).toHaveLength(11);
});

test("a taken static address is a reason, and a set of the same service gets it first", async () => {
  const f = await start();
  const h1 = await enrollNetworked(f, "h1");
  await addNetwork(f, [{ cidr: "10.1.0.0/24" }]);
  await createService(f.ctx, f.tenantId, at("db", "10.1.0.40"));
  expect(await place(f)).toEqual({ placed: 1, rejected: 0 });
  await obeyOrders(f, h1);
  await createService(f.ctx, f.tenantId, at("other", "10.1.0.40"));
  expect(await place(f)).toEqual({ placed: 0, rejected: 1 });
  const waiting = (await listSets(f)).find(({ service }) => service === "other");
  const { rejection } = await explainSet(f.ctx, f.tenantId, waiting?.id ?? "");
  expect(rejection?.reasons).toEqual([{ reason: "address-taken", hosts: 1 }]);

  // The next set of the service gets it immediately, and the other one after the quarantine.
  const first = (await listSets(f)).find(({ service }) => service === "db");
  await deleteSet(f.ctx, f.tenantId, first?.id ?? "");
  await reconcileService(f.ctx, first?.serviceId ?? "");
  expect(await place(f)).toMatchObject({ placed: 0 });
  await obeyOrders(f, h1);
  expect(await place(f)).toEqual({ placed: 1, rejected: 1 });
  expect(await assigned(f)).toEqual(["10.1.0.40"]);
  await deleteService(f.ctx, f.tenantId, "db", undefined);
  await obeyOrders(f, h1);
  expect(await place(f)).toEqual({ placed: 0, rejected: 1 });
  await f.ctx.db.execute(sql`delete from addresses`);
  await f.ctx.db.execute(sql`update subnets set unavailable = 0`);
  expect(await place(f)).toEqual({ placed: 1, rejected: 0 });
});

test("a set with a static address moves with it, and gets it in a full subnet", async () => {
  const f = await start();
  const h1 = await enrollNetworked(f, "h1");
  const h2 = await enrollNetworked(f, "h2");
  await addNetwork(f, [{ cidr: "10.1.0.0/29", pools: ["10.1.0.3"] }]);
  await createService(f.ctx, f.tenantId, at("db", "10.1.0.3"));
  expect(await place(f)).toEqual({ placed: 1, rejected: 0 });
  for (const hostId of [h1, h2]) await obeyOrders(f, hostId);
  const [before] = await listSets(f);
  const from = before?.host === "h1" ? h1 : h2;
  await drainHost(f.ctx, from);
  const mover = createMover(f.ctx);
  for (let round = 0; round < 4; round++) {
    await mover.moveSets();
    await f.placer.placeSets();
    for (const hostId of [h1, h2]) await obeyOrders(f, hostId);
  }
  const [after, ...others] = await listSets(f);
  expect(others).toEqual([]);
  expect(after).toMatchObject({ id: before?.id, host: before?.host === "h1" ? "h2" : "h1" });
  expect(await assigned(f)).toEqual(["10.1.0.3"]);
});

test.each([
  ["10.2.0.9", "outside of the network web"],
  ["10.1.0.1", "is the gateway"],
  ["10.1.0.0", "is the gateway"],
  ["10.1.0.255", "is the gateway"],
  ["10.1.0.9", "reserved"],
  ["10.1.0.200", "outside of the pools"],
  ["fd00::9", "outside of the network web"],
])("refuses the static address %s", async (address, message) => {
  const f = await start();
  const pools = ["10.1.0.0-10.1.0.99"];
  await addNetwork(f, [{ cidr: "10.1.0.0/24", pools, reservations: ["10.1.0.9"] }]);
  const refused = createService(f.ctx, f.tenantId, at("db", address));
  await expect(refused).rejects.toMatchObject({ code: "invalid-request" });
  await expect(refused).rejects.toThrow(message);
});

test("a service with a static address has at most one replica, after each change", async () => {
  const f = await start();
  await enrollNetworked(f, "h1");
  await addNetwork(f, [{ cidr: "10.1.0.0/24" }]);
  const text = "two sets cannot have one address";
  const input = { ...at("db", "10.1.0.5"), replicas: 2 };
  const template = { cpu: 1, memory: "1Gi", containers: [], networks: input.template.networks };
  const containers = [{ index: 0, name: "app", image: "a:1", options: { cpu: 1, memory: 1 } }];
  const parsed = createServiceBody.safeParse({
    name: "db",
    replicas: 2,
    template: { ...template, containers },
    autoscale: { min: 1, max: 3 },
  });
  expect(parsed.error?.issues.map(({ path }) => path.join("."))).toEqual([
    "replicas",
    "autoscale.max",
  ]);
  const { service } = await createService(f.ctx, f.tenantId, at("db", "10.1.0.5"));
  const scaled = scaleService(f.ctx, f.tenantId, "db", { replicas: 2 }, undefined);
  await expect(scaled).rejects.toThrow(text);
  const autoscale = { min: 1, max: 2, metrics: [] };
  const patched = patchService(f.ctx, f.tenantId, "db", service.generation, { autoscale });
  await expect(patched).rejects.toThrow(text);
  const many = await createService(f.ctx, f.tenantId, at("web", undefined, "web", 2));
  const change = { template: input.template };
  await expect(
    patchService(f.ctx, f.tenantId, "web", many.service.generation, change),
  ).rejects.toThrow(text);
});

test("a change of the network cannot give the set an address that the network excludes", async () => {
  const f = await start();
  await enrollNetworked(f, "h1");
  await addNetwork(f, [{ cidr: "10.1.0.0/24" }]);
  await createService(f.ctx, f.tenantId, at("db", "10.1.0.5"));
  const { subnets } = createNetworkBody.parse({
    name: "web",
    subnets: [{ cidr: "10.1.0.0/24", reservations: ["10.1.0.5"] }],
  });
  await patchNetwork(f.ctx, f.tenantId, "web", undefined, { subnets });
  expect(await place(f)).toEqual({ placed: 0, rejected: 1 });
  expect(await assigned(f)).toEqual([]);
});
