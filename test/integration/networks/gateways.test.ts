import { setTimeout } from "node:timers/promises";
import { sql } from "drizzle-orm";
import { expect, test } from "vitest";
import {
  GATEWAY_PORTS_PER_TENANT_MAX,
  type ServiceGatewayPort,
} from "../../../src/contracts/api/gateways.ts";
import { createNetworkBody, patchNetworkBody } from "../../../src/contracts/api/networks.ts";
import { hostNetworksSchema } from "../../../src/contracts/agent-protocol/host-networks.ts";
import type { HostNetwork } from "../../../src/contracts/network-driver/network-state.ts";
import { deleteHost } from "../../../src/control/hosts/delete-host.ts";
import { patchHost } from "../../../src/control/hosts/patch-host.ts";
import { Gateways } from "../../../src/control/networks/assign-gateways.ts";
import { createNetwork } from "../../../src/control/networks/create-network.ts";
import { deleteNetwork } from "../../../src/control/networks/delete-network.ts";
import { endQuarantines } from "../../../src/control/networks/end-quarantines.ts";
import { NetworkFeeds } from "../../../src/control/networks/network-feeds.ts";
import { patchNetwork } from "../../../src/control/networks/patch-network.ts";
import { readHostNetworks } from "../../../src/control/networks/read-host-networks.ts";
import { createRollout } from "../../../src/control/rollouts/create-rollout.ts";
import { closeServices } from "../../../src/control/services/close-services.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { deleteService } from "../../../src/control/services/delete-service.ts";
import { getService } from "../../../src/control/services/get-service.ts";
import { listEndpoints } from "../../../src/control/services/list-endpoints.ts";
import { patchService } from "../../../src/control/services/patch-service.ts";
import { claimUnknownHostPorts } from "../../../src/db/queries/placement/host-ports.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { newId } from "../../../src/lib/ids.ts";
import { type FleetContext, serviceBody } from "../../support/fleet/fleet-context.ts";
import { fleetPerTest } from "../../support/fleet/fleet-per-test.ts";
import { obeyOrders } from "../../support/fleet/live-sets.ts";
import { findAddressFaults } from "../../support/fleet/network-hosts.ts";
import { rolloutCaller } from "../../support/fleet/rollouts.ts";
import { enrollPublishing, findHostPortFaults } from "../../support/fleet/port-hosts.ts";

const start = fleetPerTest();
const { signal } = new AbortController();
const https: ServiceGatewayPort = { port: "https", gatewayGroup: "edge", gatewayPort: 443 };

/** Enrolls a gateway of the group `edge` with a tunnel address and an address for clients. */
async function enrollGateway(f: FleetContext, name: string): Promise<string> {
  const hostId = await enrollPublishing(f, name, {}, ["networks", "gateways"]);
  const last = name.slice(1);
  const addresses = { tunnelAddress: `172.31.0.${last}`, hostAddress: `192.0.2.${last}` };
  await f.ctx.db.execute(
    sql`update hosts set gateway_group = 'edge', cordoned = true, capabilities = capabilities || ${JSON.stringify(addresses)}::jsonb
        where id = ${hostId}`,
  );
  return hostId;
}

function body(name: string, gatewayPorts = [https]) {
  const { template, ...service } = serviceBody(name, { replicas: 1 });
  const ports = [
    { name: "https", port: 8443, protocol: "tcp" as const },
    { name: "dns", port: 53, protocol: "udp" as const },
  ];
  return {
    ...service,
    gatewayPorts,
    template: { ...template, ports, networks: [{ network: "front" }] },
  };
}

/** Reads the networks of a host whose agent has none. */
async function readNetworks(
  f: FleetContext,
  hostId: string,
  { knowsGateways = true } = {},
): Promise<HostNetwork[]> {
  const query = { version: undefined, waitMs: 0, knowsGateways };
  const answer = await readHostNetworks(f.ctx, new NetworkFeeds(f.ctx), hostId, query, signal);
  return hostNetworksSchema.parse(answer).networks ?? [];
}

/** The agent of the host asks again with the networks that it has. */
async function confirmNetworks(f: FleetContext, hostId: string): Promise<void> {
  const feeds = new NetworkFeeds(f.ctx);
  const query = { version: undefined as string | undefined, waitMs: 0, knowsGateways: true };
  const { version } = await readHostNetworks(f.ctx, feeds, hostId, query, signal);
  await readHostNetworks(f.ctx, feeds, hostId, { ...query, version }, signal);
}

/** A fleet whose service `web` runs on h1, with a gateway g2 that runs nothing. */
async function startFleet(gatewayPorts = [https], cidr = "10.1.0.0/24") {
  const f = await start();
  const h1 = await enrollPublishing(f, "h1", {}, ["networks"]);
  await f.ctx.db.execute(
    sql`update hosts set capabilities = capabilities || '{"tunnelAddress":"172.31.0.1"}' where id = ${h1}`,
  );
  const g2 = await enrollGateway(f, "g2");
  const subnets = [{ cidr }];
  const input = createNetworkBody.parse({ name: "front", subnets });
  const network = (await createNetwork(f.ctx, f.tenantId, input)).id;
  await createService(f.ctx, f.tenantId, body("web", gatewayPorts));
  await f.placer.placeSets();
  await obeyOrders(f, h1);
  return { f, h1, g2, network, sweep: new Gateways(f.ctx) };
}

const listGatewayPorts = async (f: FleetContext, name = "web") =>
  (await listEndpoints(f.ctx, f.tenantId, name)).gateways;

async function changeGatewayPorts(
  f: FleetContext,
  gatewayPorts: ServiceGatewayPort[],
): Promise<void> {
  const { generation } = await getService(f.ctx, f.tenantId, "web");
  const { effects } = await patchService(f.ctx, f.tenantId, "web", generation, { gatewayPorts });
  expect(effects).toEqual([expect.stringMatching("Gateways publish the service")]);
}

async function setGroup(f: FleetContext, hostId: string, gatewayGroup: string | null) {
  const host = await patchHost(f.ctx, hostId, undefined, { gatewayGroup });
  expect(host.gatewayGroup).toBe(gatewayGroup);
}

const findFaults = async (f: FleetContext) => [
  ...(await findAddressFaults(f)),
  ...(await findHostPortFaults(f)),
];

const listStates = (f: FleetContext): Promise<{ host: string; address: string; state: string }[]> =>
  queryRows(
    f.ctx.db,
    sql`select gateway_host_id as host, host(address) as address, state from addresses where gateway_host_id is not null order by address`,
  );

test("a gateway without a set gets a port and an address, which all hosts of the network learn", async () => {
  const { f, h1, g2, network, sweep } = await startFleet();
  expect(await readNetworks(f, g2)).toEqual([]);
  expect(await listGatewayPorts(f)).toMatchObject([{ reason: "pending" }]);
  f.signals.length = 0;
  expect(await sweep.assign()).toBe(1);
  expect(f.signals).toEqual(expect.arrayContaining([`host:${g2}`, `network:${network}`]));
  expect(f.signals.some((each) => each.startsWith("service:"))).toBe(true);
  const { id } = await getService(f.ctx, f.tenantId, "web");
  const [own] = await readNetworks(f, g2);
  expect(own).toMatchObject({
    networkId: network,
    gateway: {
      address: "10.1.0.3",
      ports: [{ serviceId: id, protocol: "tcp", hostPort: 443, port: 8443 }],
    },
    services: [{ name: "web", members: [{ addresses: ["10.1.0.2"], isEndpoint: true }] }],
  });
  const [other] = await readNetworks(f, h1);
  expect(other?.gateway).toBeUndefined();
  expect(other?.remotePorts).toEqual([
    {
      mac: "0a:00:0a:01:00:03",
      addresses: ["10.1.0.3"],
      tunnelAddress: "172.31.0.2",
      trustedPorts: [{ serviceId: id, protocol: "tcp", port: 8443 }],
    },
  ]);
  // The changes of a network have no members for gateways, so hosts get it whole.
  const query = { version: undefined, networkVersions: [], waitMs: 0, knowsGateways: true };
  const whole = await readHostNetworks(f.ctx, new NetworkFeeds(f.ctx), h1, query, signal);
  expect(whole.changes).toBeUndefined();
  expect(whole.networks).toEqual([other]);
  // Hosts of an earlier release refuse members that they do not know.
  const [earlier] = await readNetworks(f, h1, { knowsGateways: false });
  const [port] = other?.remotePorts ?? [];
  expect(earlier?.remotePorts).toEqual([{ ...port, trustedPorts: undefined }]);
  expect(Object.keys(earlier?.remotePorts[0] ?? {})).not.toContain("trustedPorts");
  const [withoutGateway] = await readNetworks(f, g2, { knowsGateways: false });
  expect(withoutGateway?.gateway).toBeUndefined();
  expect(await listGatewayPorts(f)).toEqual([
    {
      port: "https",
      protocol: "tcp",
      gatewayGroup: "edge",
      host: { id: g2, name: "g2" },
      address: "192.0.2.2",
      gatewayPort: 443,
      reason: null,
    },
  ]);
  expect(await sweep.assign()).toBe(0);
  expect(await findFaults(f)).toEqual([]);
});

test("port and address end with the publication, and the network leaves the gateway", async () => {
  const { f, g2, sweep } = await startFleet();
  await sweep.assign();
  const { version } = await listEndpoints(f.ctx, f.tenantId, "web");
  await changeGatewayPorts(f, []);
  expect(await sweep.assign()).toBe(1);
  expect(await readNetworks(f, g2)).toEqual([]);
  const after = await listEndpoints(f.ctx, f.tenantId, "web");
  expect(after).toMatchObject({ gateways: [] });
  expect(after.version).not.toBe(version);
  expect(await listStates(f)).toMatchObject([{ host: g2, state: "quarantined" }]);
  // The gateway gets the same address again.
  await changeGatewayPorts(f, [https]);
  await sweep.assign();
  expect(await listStates(f)).toMatchObject([{ address: "10.1.0.3", state: "assigned" }]);
  f.signals.length = 0;
  await setGroup(f, g2, null);
  expect(f.signals).toContain(`service:${(await getService(f.ctx, f.tenantId, "web")).id}`);
  await sweep.assign();
  expect(await listStates(f)).toMatchObject([{ state: "quarantined" }]);
  expect(await listGatewayPorts(f)).toEqual([]);
  await confirmNetworks(f, g2);
  expect(await endQuarantines(f.ctx, signal, { seconds: 0 })).toBe(1);
  expect(await listStates(f)).toEqual([]);
  expect(await findFaults(f)).toEqual([]);
});

test("each host of a group publishes the service, also one that joins later", async () => {
  const { f, sweep } = await startFleet();
  await sweep.assign();
  const g3 = await enrollGateway(f, "g3");
  await setGroup(f, g3, "other");
  await sweep.assign();
  expect((await listGatewayPorts(f)).map(({ host }) => host.name)).toEqual(["g2"]);
  await setGroup(f, g3, "edge");
  await sweep.assign();
  expect(await listGatewayPorts(f)).toMatchObject([{ reason: null }, { reason: null }]);
  expect((await listStates(f)).map(({ address }) => address)).toEqual(["10.1.0.3", "10.1.0.4"]);
});

test("a port has one holder: a set, or the first service, and the others learn why", async () => {
  const { f, g2, sweep } = await startFleet();
  await sweep.assign();
  await createService(f.ctx, f.tenantId, body("second"));
  expect(await sweep.assign()).toBe(0);
  expect(await listGatewayPorts(f, "second")).toMatchObject([{ reason: "host-port-taken" }]);
  // A set that fixes the port is not placed on the gateway, and that of the second service is.
  await f.ctx.db.execute(sql`update hosts set cordoned = id <> ${g2}`);
  const { template, ...service } = serviceBody("third", { replicas: 1 });
  const ports = [
    { name: "https", port: 443, protocol: "tcp" as const, publish: { hostPort: 443 } },
  ];
  await createService(f.ctx, f.tenantId, { ...service, template: { ...template, ports } });
  expect(await f.placer.placeSets()).toMatchObject({ placed: 1, rejected: 1 });
  // Without the first service, the second one gets it, and the set still does not.
  await deleteService(f.ctx, f.tenantId, "web", undefined);
  await sweep.assign();
  expect(await listGatewayPorts(f, "second")).toMatchObject([{ reason: "no-endpoints" }]);
  expect(await findHostPortFaults(f)).toEqual([]);
});

test("the port of a set stays with the set", async () => {
  const { f, g2, sweep } = await startFleet([]);
  await f.ctx.db.execute(sql`update hosts set cordoned = id <> ${g2}`);
  const { template, ...service } = serviceBody("fixed", { replicas: 1 });
  const ports = [
    { name: "https", port: 443, protocol: "tcp" as const, publish: { hostPort: 443 } },
  ];
  await createService(f.ctx, f.tenantId, { ...service, template: { ...template, ports } });
  expect(await f.placer.placeSets()).toMatchObject({ placed: 1 });
  await changeGatewayPorts(f, [https]);
  expect(await sweep.assign()).toBe(0);
  expect(await listGatewayPorts(f)).toMatchObject([{ reason: "host-port-taken" }]);
  await deleteService(f.ctx, f.tenantId, "fixed", undefined);
  await obeyOrders(f, g2);
  expect(await sweep.assign()).toBe(1);
  expect(await listGatewayPorts(f)).toMatchObject([{ reason: null }]);
});

test("I19: a set and a service that want one port at the same time never both have it", async () => {
  const { f, g2, sweep } = await startFleet([]);
  await f.ctx.db.execute(sql`update hosts set cordoned = id <> ${g2}`);
  const { template, ...service } = serviceBody("fixed", { replicas: 1 });
  const ports = [
    { name: "https", port: 443, protocol: "tcp" as const, publish: { hostPort: 443 } },
  ];
  const holders = new Set<string>();
  const runs: (() => Promise<unknown>)[] = [() => f.placer.placeSets(), () => sweep.assign()];
  for (let round = 0; round < 14; round++) {
    await createService(f.ctx, f.tenantId, { ...service, template: { ...template, ports } });
    await changeGatewayPorts(f, [https]);
    const [first, second] = round % 2 === 0 ? runs : runs.toReversed();
    const running = first?.();
    // In the first rounds each of both wins. On a busy machine, the head start may be too short.
    await (round < 2 ? running : setTimeout(round * 10));
    await Promise.all([running, second?.()]);
    const held = await queryRows<{ holder: string }>(
      f.ctx.db,
      sql`select case when set_id is null then 'service' else 'set' end as holder from host_ports`,
    );
    expect(held).toHaveLength(1);
    holders.add(held[0]?.holder ?? "");
    expect(await findHostPortFaults(f)).toEqual([]);
    await changeGatewayPorts(f, []);
    await deleteService(f.ctx, f.tenantId, "fixed", undefined);
    await obeyOrders(f, g2);
    await closeServices(f.ctx);
    await sweep.assign();
  }
  expect(holders).toEqual(new Set(["set", "service"]));
});

test("a subnet without a free address publishes nothing, until it has one", async () => {
  const { f, g2, sweep } = await startFleet([https], "10.1.0.0/29");
  // The set has .2, and the others are reserved.
  const patch = async (reservations: string[]) => {
    const { subnets } = patchNetworkBody.parse({
      subnets: [{ cidr: "10.1.0.0/29", reservations }],
    });
    const [row] = await queryRows<{ generation: number }>(
      f.ctx.db,
      sql`select generation::int as generation from networks where name = 'front'`,
    );
    await patchNetwork(f.ctx, f.tenantId, "front", row?.generation, { subnets });
  };
  await patch(["10.1.0.3-10.1.0.6"]);
  expect(await sweep.assign()).toBe(1);
  expect(await readNetworks(f, g2)).toEqual([]);
  expect(await listGatewayPorts(f)).toMatchObject([{ reason: "subnet-exhausted" }]);
  await patch(["10.1.0.4-10.1.0.6"]);
  for (let run = 0; run < 5; run++) await sweep.assign();
  expect(await listGatewayPorts(f)).toMatchObject([{ reason: null }]);
  await expect(patch(["10.1.0.3-10.1.0.6"])).rejects.toThrow("A gateway has the address 10.1.0.3");
});

test("a silent gateway retains its claims, and its address is not free before it returns", async () => {
  const { f, h1, g2, sweep } = await startFleet();
  await sweep.assign();
  const setLease = (seconds: number) =>
    f.ctx.db.execute(
      sql`update hosts set lease_expires_at = now() + make_interval(secs => ${seconds}), state = ${seconds < 0 ? "lost" : "ready"} where id = ${g2}`,
    );
  await setLease(-60);
  expect(await sweep.assign()).toBe(0);
  expect(await listGatewayPorts(f)).toMatchObject([{ reason: "host-not-ready" }]);
  // Hosts of sets trust it no more, but it may still use the address.
  await changeGatewayPorts(f, []);
  await sweep.assign();
  expect(await listStates(f)).toMatchObject([{ state: "quarantined" }]);
  expect((await readNetworks(f, h1))[0]?.remotePorts).toEqual([]);
  expect(await endQuarantines(f.ctx, signal, { seconds: 0 })).toBe(0);
  // Its agent returns, but reads no networks.
  await setLease(60);
  expect(await endQuarantines(f.ctx, signal, { seconds: 0 })).toBe(0);
  // Its driver is not ready, so its flows may be the earlier ones.
  const setFeatures = (features: string[]) =>
    f.ctx.db.execute(
      sql`update hosts set capabilities = jsonb_set(capabilities, '{features}', ${JSON.stringify(features)}::jsonb) where id = ${g2}`,
    );
  await setFeatures(["gateways"]);
  await confirmNetworks(f, g2);
  expect(await endQuarantines(f.ctx, signal, { seconds: 0 })).toBe(0);
  await setFeatures(["gateways", "networks", "published-ports"]);
  await confirmNetworks(f, g2);
  expect(await endQuarantines(f.ctx, signal, { seconds: 600 })).toBe(0);
  expect(await endQuarantines(f.ctx, signal, { seconds: 0 })).toBe(1);
});

test("a gateway that still has the network confirms nothing about its address there", async () => {
  const { f, g2, sweep } = await startFleet();
  await sweep.assign();
  const feeds = new NetworkFeeds(f.ctx);
  const query = { version: undefined, waitMs: 0, knowsGateways: true };
  const { version } = await readHostNetworks(f.ctx, feeds, g2, query, signal);
  await changeGatewayPorts(f, []);
  await sweep.assign();
  // The agent asks with the networks that it has, and gets others.
  const next = await readHostNetworks(f.ctx, feeds, g2, { ...query, version }, signal);
  expect(next.networks).toEqual([]);
  expect(await endQuarantines(f.ctx, signal, { seconds: 0 })).toBe(0);
});

test("a host whose agent does not know gateways gets no port", async () => {
  const { f, g2, sweep } = await startFleet();
  await f.ctx.db.execute(
    sql`update hosts set capabilities = jsonb_set(capabilities, '{features}', '["networks","published-ports"]') where id = ${g2}`,
  );
  expect(await sweep.assign()).toBe(0);
  expect(await listGatewayPorts(f)).toMatchObject([{ reason: "publishing-unavailable" }]);
});

test("no label makes a host a gateway, because a machine chooses its own when it enrolls", async () => {
  const { f, g2, sweep } = await startFleet();
  await setGroup(f, g2, null);
  await patchHost(f.ctx, g2, undefined, { labels: { gateway: "edge", gatewayGroup: "edge" } });
  expect(await sweep.assign()).toBe(0);
  expect(await listGatewayPorts(f)).toEqual([]);
});

test("a tenant gets only gateways in pools of its grants", async () => {
  const { f, sweep } = await startFleet();
  const grant = (pools: string[]) =>
    f.ctx.db.execute(
      sql`update tenants set grants = jsonb_set(grants, '{pools}', ${JSON.stringify(pools)}::jsonb) where id = ${f.tenantId}`,
    );
  await grant(["other"]);
  expect(await sweep.assign()).toBe(0);
  expect(await listGatewayPorts(f)).toEqual([]);
  await grant(["other", "default"]);
  expect(await sweep.assign()).toBe(1);
  await grant([]);
  await sweep.assign();
  expect(await listStates(f)).toMatchObject([{ state: "quarantined" }]);
});

test("one tenant does not use up the ports of a gateway, and its list says so", async () => {
  const { f, sweep } = await startFleet([]);
  const count = GATEWAY_PORTS_PER_TENANT_MAX + 4;
  // Each service has at most 16 ports.
  for (let first = 0; first < count; first += 16) {
    const ports = Array.from({ length: Math.min(16, count - first) }, (_, index) => ({
      ...https,
      gatewayPort: 8_000 + first + index,
    }));
    await createService(f.ctx, f.tenantId, body(`many-${first}`, ports));
  }
  await sweep.assign();
  const listHeld = () =>
    queryRows<{ port: number }>(f.ctx.db, sql`select port from host_ports order by port`);
  const held = await listHeld();
  expect(held).toHaveLength(GATEWAY_PORTS_PER_TENANT_MAX);
  const last = await listGatewayPorts(f, `many-${Math.floor(count / 16) * 16}`);
  expect(last.map(({ reason }) => reason)).toContain("limit-reached");
  // An older service does not displace a port that the gateway has.
  await changeGatewayPorts(f, [https]);
  expect(await sweep.assign()).toBe(0);
  expect(await listHeld()).toEqual(held);
});

test("a failing gateway does not stop the others", async () => {
  const { f, g2, sweep } = await startFleet();
  const g3 = await enrollGateway(f, "g3");
  for (const statement of [
    "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'refused'; end $$",
    `create trigger refuse before insert on host_ports for each row when (new.host_id = '${g2}') execute function refuse()`,
  ])
    await f.ctx.db.execute(sql.raw(statement));
  expect(await sweep.assign()).toBe(1);
  expect((await listStates(f)).map(({ host }) => host)).toEqual([g3]);
});

test("during a rollout each set has the port of its own revision", async () => {
  const { f, h1, g2, sweep } = await startFleet();
  await sweep.assign();
  const { id, generation } = await getService(f.ctx, f.tenantId, "web");
  const { template } = body("web");
  const moved = template.ports.map((each) =>
    each.name === "https" ? { ...each, port: 9443 } : each,
  );
  const patch = { template: { ...template, ports: moved }, adopt: "new-sets" as const };
  await patchService(f.ctx, f.tenantId, "web", generation, patch);
  const [set] = await queryRows<{ id: string }>(f.ctx.db, sql`select id from sets`);
  const [own] = await readNetworks(f, g2);
  expect(own?.gateway?.ports).toEqual([
    {
      serviceId: id,
      protocol: "tcp",
      hostPort: 443,
      port: 9443,
      exceptions: [
        {
          setId: set?.id,
          port: 8443,
        },
      ],
    },
  ]);
  const [other] = await readNetworks(f, h1);
  expect(other?.remotePorts[0]?.trustedPorts).toEqual([
    { serviceId: id, protocol: "tcp", port: 9443 },
    { serviceId: id, protocol: "tcp", port: 8443 },
  ]);
});

test("a port that only the target revision has is taken, and clients learn that no set has it", async () => {
  const { f, g2, sweep } = await startFleet([]);
  const { generation } = await getService(f.ctx, f.tenantId, "web");
  const { template } = body("web");
  const ports = [...template.ports, { name: "admin", port: 9000, protocol: "tcp" as const }];
  const gatewayPorts = [{ ...https, port: "admin" }];
  const patch = { template: { ...template, ports }, gatewayPorts };
  await patchService(f.ctx, f.tenantId, "web", generation, patch);
  await sweep.assign();
  expect(await listGatewayPorts(f)).toMatchObject([{ reason: "no-endpoints" }]);
  const [set] = await queryRows<{ id: string }>(f.ctx.db, sql`select id from sets`);
  const [own] = await readNetworks(f, g2);
  expect(own?.gateway?.ports).toMatchObject([
    { port: 9000, exceptions: [{ setId: set?.id, port: null }] },
  ]);
});

test("an unknown set takes the port of a gateway, which serves it in any case", async () => {
  const { f, g2, sweep } = await startFleet();
  await sweep.assign();
  const unknown = { setId: newId("set"), protocol: "tcp" as const, port: 443 };
  await claimUnknownHostPorts(f.ctx.db, g2, [unknown]);
  expect(await listGatewayPorts(f)).toMatchObject([{ reason: "host-port-taken" }]);
  await sweep.assign();
  expect(await listStates(f)).toMatchObject([{ state: "quarantined" }]);
});

test("a network is not deleted while a gateway has an address in it", async () => {
  const { f, h1, sweep } = await startFleet();
  await sweep.assign();
  await deleteService(f.ctx, f.tenantId, "web", undefined);
  await obeyOrders(f, h1);
  await closeServices(f.ctx);
  const remove = () => deleteNetwork(f.ctx, f.tenantId, "front");
  await expect(remove()).rejects.toThrow("gateway g2 has not left it yet");
  await sweep.assign();
  await remove();
});

test("a gateway whose driver restarts retains its claims, and gets no new ones", async () => {
  const { f, g2, sweep } = await startFleet();
  await sweep.assign();
  await f.ctx.db.execute(
    sql`update hosts set capabilities = jsonb_set(capabilities, '{features}', '[]') where id = ${g2}`,
  );
  await changeGatewayPorts(f, [https, { port: "dns", gatewayGroup: "edge", gatewayPort: 8053 }]);
  expect(await sweep.assign()).toBe(0);
  expect(await listGatewayPorts(f)).toMatchObject([
    { port: "dns", reason: "publishing-unavailable" },
    { port: "https", reason: "publishing-unavailable" },
  ]);
  const held = await queryRows(f.ctx.db, sql`select port from host_ports`);
  expect(held).toEqual([{ port: 443 }]);
});

test("the claims end with a deleted service, and with a deleted host", async () => {
  const { f, h1, g2, sweep } = await startFleet();
  await sweep.assign();
  await deleteService(f.ctx, f.tenantId, "web", undefined);
  await obeyOrders(f, h1);
  await closeServices(f.ctx);
  const ports = await queryRows(f.ctx.db, sql`select 1 from host_ports`);
  expect(ports).toEqual([]);
  await createService(f.ctx, f.tenantId, body("web"));
  await sweep.assign();
  await deleteHost(f.ctx, g2, {});
  expect(await listStates(f)).toMatchObject([{ state: "quarantined" }]);
  expect(await sweep.assign()).toBe(0);
  expect(await findFaults(f)).toEqual([]);
});

test("publications that name no port of the template, or a forbidden port, are refused", async () => {
  const { f } = await startFleet();
  await expect(changeGatewayPorts(f, [{ ...https, port: "http" }])).rejects.toMatchObject({
    code: "invalid-request",
    errors: [{ pointer: "/gatewayPorts/0/port" }],
  });
  await expect(changeGatewayPorts(f, [https, https])).rejects.toMatchObject({
    errors: [{ pointer: "/gatewayPorts/1/gatewayPort" }],
  });
  await expect(changeGatewayPorts(f, [{ ...https, gatewayPort: 22 }])).rejects.toMatchObject({
    code: "unsupported",
    errors: [{ pointer: "/gatewayPorts/0/gatewayPort" }],
  });
  const { generation, gatewayPorts } = await getService(f.ctx, f.tenantId, "web");
  expect(gatewayPorts).toEqual([https]);
  const { template } = body("web");
  const { ports: _ports, ...without } = template;
  await expect(
    patchService(f.ctx, f.tenantId, "web", generation, { template: without }),
  ).rejects.toMatchObject({ errors: [{ pointer: "/gatewayPorts/0/port" }] });
  const rollout = createRollout(f.ctx, f.tenantId, "web", {
    body: { template: without, ifActive: "reject" },
    caller: rolloutCaller,
    generation: undefined,
  });
  await expect(rollout).rejects.toMatchObject({ errors: [{ pointer: "/gatewayPorts/0/port" }] });
});
