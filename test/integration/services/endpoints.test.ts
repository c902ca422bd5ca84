import { sql } from "drizzle-orm";
import { expect, test } from "vitest";
import {
  ENDPOINTS_MAX,
  type EndpointList,
  endpointListSchema,
} from "../../../src/contracts/api/endpoints.ts";
import { createNetworkBody } from "../../../src/contracts/api/networks.ts";
import { drainHost } from "../../../src/control/hosts/drain-host.ts";
import { replaceSetsOfLostHosts } from "../../../src/control/hosts/replace-sets-of-lost-hosts.ts";
import { createNetwork } from "../../../src/control/networks/create-network.ts";
import { createMover } from "../../../src/control/operations/move-sets.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { deleteService } from "../../../src/control/services/delete-service.ts";
import { listEndpoints } from "../../../src/control/services/list-endpoints.ts";
import { scaleService } from "../../../src/control/services/scale-service.ts";
import { controlSet } from "../../../src/control/sets/control-set.ts";
import { deleteSet } from "../../../src/control/sets/delete-set.ts";
import { moveSet } from "../../../src/control/sets/move-set.ts";
import { assert } from "../../../src/lib/assert.ts";
import { type FleetContext, observed, serviceBody } from "../../support/fleet/fleet-context.ts";
import { fleetPerTest } from "../../support/fleet/fleet-per-test.ts";
import { listLiveSets, obeyOrders } from "../../support/fleet/live-sets.ts";
import { enrollNetworked } from "../../support/fleet/network-hosts.ts";
import { enrollPublishing, listHostPorts, publishingBody } from "../../support/fleet/port-hosts.ts";
import { runningContainer } from "../../support/fleet/running-container.ts";

const start = fleetPerTest();

type ServiceParts = Parameters<typeof serviceBody>[1];

/** Starts a fleet with one host, on which all sets of the service `web` are ready. */
async function runService(parts: ServiceParts = {}): Promise<{ f: FleetContext; h1: string }> {
  const f = await start({ hostLostGraceMs: 0 });
  const h1 = await f.enroll("h1");
  await createService(f.ctx, f.tenantId, serviceBody("web", parts));
  await f.placer.placeSets();
  await obeyOrders(f, h1);
  return { f, h1 };
}

const list = (f: FleetContext): Promise<EndpointList> => listEndpoints(f.ctx, f.tenantId, "web");

/** The ids of the sets that are endpoints. */
const idsOf = async (f: FleetContext) => (await list(f)).endpoints.map(({ setId }) => setId);

async function oneSet(f: FleetContext) {
  const [set] = await listLiveSets(f);
  assert(set, "the service has a set");
  return set;
}

/** The agent of the host reports all its sets as running, with these members. */
async function report(f: FleetContext, hostId: string, more: Parameters<typeof observed>[2]) {
  const { sets } = await f.sync(hostId, { full: true });
  await f.sync(hostId, { observed: sets.map((set) => observed(set, "running", more)) });
}

test("a set is an endpoint while its agent reports it ready, and the version changes with it", async () => {
  const { f, h1 } = await runService({ replicas: 2 });
  const sets = await listLiveSets(f);
  const both = await list(f);
  expect(both).toMatchObject({ service: "web", total: 2 });
  expect(both.endpoints).toEqual(
    sets.map(({ id }) => ({
      setId: id,
      host: { id: h1, name: "h1" },
      reach: "host",
      interfaces: [{ network: null, addresses: ["172.17.0.2"] }],
      ports: [],
    })),
  );
  await report(f, h1, { ready: false });
  const none = await list(f);
  expect(none).toMatchObject({ total: 0, endpoints: [] });
  expect(none.version).not.toBe(both.version);
  await report(f, h1, { ready: true });
  expect(await list(f)).toEqual(both);
});

test("a ready set without an address is not an endpoint", async () => {
  const { f, h1 } = await runService();
  expect(await idsOf(f)).toHaveLength(1);
  await report(f, h1, { address: null });
  expect(await idsOf(f)).toEqual([]);
});

test("a set whose containers have completed is not an endpoint", async () => {
  const { f, h1 } = await runService();
  const ended = runningContainer({ name: "job", state: "exited", exitCode: 0 });
  await report(f, h1, { containers: [runningContainer(), ended] });
  expect(await idsOf(f)).toHaveLength(1);
  await report(f, h1, { containers: [ended] });
  expect(await idsOf(f)).toEqual([]);
});

test("the interfaces have the addresses of all networks, in the order of the template", async () => {
  const f = await start();
  const h1 = await enrollNetworked(f, "h1");
  for (const [name, ...cidrs] of [
    ["front", "fd01::/64", "10.1.0.0/24"],
    ["back", "10.2.0.0/24"],
  ] as const) {
    const subnets = cidrs.map((cidr) => ({ cidr }));
    await createNetwork(f.ctx, f.tenantId, createNetworkBody.parse({ name, subnets }));
  }
  const body = serviceBody("web");
  const networks = [{ network: "front" }, { network: "back" }];
  await createService(f.ctx, f.tenantId, { ...body, template: { ...body.template, networks } });
  await f.placer.placeSets();
  await obeyOrders(f, h1);
  expect((await list(f)).endpoints).toMatchObject([
    {
      reach: "network",
      interfaces: [
        { network: "front", addresses: ["10.1.0.2", "fd01::2"] },
        { network: "back", addresses: ["10.2.0.2"] },
      ],
    },
  ]);
});

test("two hosts without networks serve one service at their addresses and published ports", async () => {
  const f = await start();
  const hosts = [];
  for (const [name, hostAddress] of [
    ["h1", "192.0.2.1"],
    ["h2", "192.0.2.2"],
  ] as const) {
    const hostId = await enrollPublishing(f, name);
    hosts.push(hostId);
    await f.ctx.db.execute(
      sql`update hosts set capabilities = capabilities || ${JSON.stringify({ hostAddress })}::jsonb where id = ${hostId}`,
    );
  }
  const { template, ...body } = publishingBody("web", [{ hostPort: 80 }, true], 2);
  const ports = [...template.ports, { name: "admin", port: 9_000, protocol: "udp" as const }];
  await createService(f.ctx, f.tenantId, { ...body, template: { ...template, ports } });
  await f.placer.placeSets();
  for (const hostId of hosts) await obeyOrders(f, hostId);
  const listed = endpointListSchema.parse(await list(f));
  const stored = await listHostPorts(f);
  for (const { host, ports: shown } of listed.endpoints) {
    const address = host.name === "h1" ? "192.0.2.1" : "192.0.2.2";
    const own = stored.find((port) => port.host === host.name && port.name === "p1");
    expect(shown).toEqual([
      { name: "p0", protocol: "tcp", port: 80, published: { address, port: 80 } },
      { name: "p1", protocol: "tcp", port: 81, published: { address, port: own?.port } },
      { name: "admin", protocol: "udp", port: 9_000, published: null },
    ]);
  }
  expect(listed.endpoints.map(({ host }) => host.name).sort()).toEqual(["h1", "h2"]);
});

test("a set leaves the list with the order to stop it, before its host knows", async () => {
  const { f } = await runService();
  await controlSet(f.ctx, null, (await oneSet(f)).id, "stop");
  expect(await oneSet(f)).toMatchObject({ ready: true }); // the host has reported nothing yet
  expect(await idsOf(f)).toEqual([]);
});

test("a set leaves the list with its deletion, and its replacement joins it when it is ready", async () => {
  const { f, h1 } = await runService();
  const { id } = await oneSet(f);
  await deleteSet(f.ctx, null, id);
  expect(await idsOf(f)).toEqual([]);
  await f.placer.placeSets();
  await obeyOrders(f, h1);
  const ids = await idsOf(f);
  expect(ids).toHaveLength(1);
  expect(ids).not.toContain(id);
});

test("a scale-in and the deletion of the service remove sets from the list immediately", async () => {
  const { f } = await runService({ replicas: 3, disruption: { maxUnavailable: 3 } });
  await scaleService(f.ctx, f.tenantId, "web", { replicas: 1 }, undefined);
  expect(await idsOf(f)).toHaveLength(1);
  await deleteService(f.ctx, f.tenantId, "web", undefined);
  expect(await list(f)).toMatchObject({ total: 0, endpoints: [] });
});

test("a drained set stays an endpoint until its replacement is one, and leaves before it stops", async () => {
  const { f, h1 } = await runService();
  const { id } = await oneSet(f);
  const h2 = await f.enroll("h2");
  const mover = createMover(f.ctx);
  await drainHost(f.ctx, h1);
  await mover.moveSets();
  await f.placer.placeSets();
  expect(await idsOf(f)).toEqual([id]);
  await obeyOrders(f, h2);
  const [before] = await listLiveSets(f);
  expect(before).toMatchObject({ id, desired: "running", ready: true }); // no order to stop yet
  expect((await list(f)).endpoints).toMatchObject([{ host: { name: "h2" } }]);
  await report(f, h2, { ready: false });
  expect(await idsOf(f)).toEqual([id]); // it returns, because Berth has not removed it yet
  await obeyOrders(f, h2);
  await mover.moveSets();
  await obeyOrders(f, h1);
  expect((await list(f)).endpoints).toMatchObject([{ host: { name: "h2" } }]);
});

test("a replaced set stays an endpoint until its replacement is ready for minReadySeconds", async () => {
  const { f, h1 } = await runService({ disruption: { minReadySeconds: 60 } });
  const h2 = await f.enroll("h2");
  await drainHost(f.ctx, h1);
  await createMover(f.ctx).moveSets();
  await f.placer.placeSets();
  await obeyOrders(f, h2);
  expect((await list(f)).total).toBe(2);
  await f.ctx.db.execute(sql`update sets set ready_since = ready_since - interval '61 s'`);
  expect((await list(f)).endpoints).toMatchObject([{ host: { name: "h2" } }]);
});

test("a set that stops before it moves leaves the list with the order", async () => {
  const { f, h1 } = await runService({ disruption: { maxSurge: 0, maxUnavailable: 1 } });
  const { id } = await oneSet(f);
  await f.enroll("h2");
  await moveSet(f.ctx, null, id);
  expect(await idsOf(f)).toEqual([id]); // the move waits
  await createMover(f.ctx).moveSets();
  expect(await oneSet(f)).toMatchObject({ host: "h1", desired: "running", ready: true });
  expect(await idsOf(f)).toEqual([]);
  await obeyOrders(f, h1);
  expect(await idsOf(f)).toEqual([]);
});

test("the sets of a silent host leave the list, and return with their host", async () => {
  const { f, h1 } = await runService({ onHostLost: "wait" });
  await f.enroll("h2");
  await f.ctx.db.execute(
    sql`update hosts set lease_expires_at = now() - interval '1 s' where id = ${h1}`,
  );
  expect(await idsOf(f)).toHaveLength(1); // not lost yet: a restarted API has expired leases (I12)
  f.signals.length = 0;
  await replaceSetsOfLostHosts(f.ctx);
  expect(await idsOf(f)).toEqual([]);
  expect(f.signals.filter((name) => name.startsWith("service:"))).toHaveLength(1);
  const { sets, hostGeneration } = await f.sync(h1, { full: true });
  const running = sets.map((set) => observed(set, "running"));
  await f.sync(h1, { acceptedGeneration: hostGeneration, observed: running });
  expect(await idsOf(f)).toHaveLength(1);
});

test("the sets of a host without Docker leave the list, and followers are woken", async () => {
  const { f, h1 } = await runService();
  f.signals.length = 0;
  await f.sync(h1, { docker: { state: "unreachable", detail: "no answer" } });
  expect(await idsOf(f)).toEqual([]);
  expect(f.signals.filter((name) => name.startsWith("service:"))).toHaveLength(1);
});

test("a service of another tenant does not exist", async () => {
  const { f } = await runService();
  const error = { code: "not-found" };
  await expect(listEndpoints(f.ctx, "tnt_other", "web")).rejects.toMatchObject(error);
  await expect(listEndpoints(f.ctx, f.tenantId, "db")).rejects.toMatchObject(error);
});

test("a large service lists its first endpoints by id, and counts all", async () => {
  const { f } = await runService();
  // Their ids precede that of the first set.
  await f.ctx.db.execute(
    sql`insert into sets (id, tenant_id, service_id, revision, priority, cpu_millis, memory_bytes, volume_bytes, rootfs_bytes,
          host_id, state, ready, address)
        select 'set_' || lpad(n::text, 26, '0'), tenant_id, service_id, revision, priority, 1, 1, 0, 1, host_id, 'running', true, '172.17.0.9'
        from sets, generate_series(1, ${ENDPOINTS_MAX}) n`,
  );
  const { total, endpoints } = await list(f);
  expect(total).toBe(ENDPOINTS_MAX + 1);
  const expected = Array.from({ length: ENDPOINTS_MAX }, (_unused, index) => index + 1);
  expect(endpoints.map(({ setId }) => Number(setId.slice(4)))).toEqual(expected);
});
