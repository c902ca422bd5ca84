import { sql } from "drizzle-orm";
import { setTimeout as pause } from "node:timers/promises";
import { expect, test } from "vitest";
import { networkStateSchema } from "../../../src/contracts/network-driver/network-state.ts";
import { noteCapabilities } from "../../../src/control/hosts/note-capabilities.ts";
import { drainHost } from "../../../src/control/hosts/drain-host.ts";
import { NetworkFeeds } from "../../../src/control/networks/network-feeds.ts";
import { readHostNetworks } from "../../../src/control/networks/read-host-networks.ts";
import { createMover } from "../../../src/control/operations/move-sets.ts";
import { createPlacer } from "../../../src/control/placement/place-pending-sets.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { listEndpoints } from "../../../src/control/services/list-endpoints.ts";
import { controlSet } from "../../../src/control/sets/control-set.ts";
import { findFleetNetwork } from "../../../src/db/queries/networks/host-networks.ts";
import { createLocalSignals } from "../../support/fakes/local-signals.ts";
import {
  type FleetContext,
  observed,
  serviceBody,
  smallHost,
} from "../../support/fleet/fleet-context.ts";
import { fleetPerTest } from "../../support/fleet/fleet-per-test.ts";
import { listLiveSets, obeyOrders } from "../../support/fleet/live-sets.ts";
import { listAddresses, setFeatures } from "../../support/fleet/network-hosts.ts";

import { waitUntil } from "../../support/wait-until.ts";

const emptyCapabilities = {
  docker: null,
  setsMax: null,
  selfTest: null,
  otherHostVolumes: null,
  hostAddress: null,
};
const start = fleetPerTest();
const { signal } = new AbortController();
const HOSTS = 100;

/** A fleet whose waiters receive the signals of this process. */
async function startWithSignals() {
  const f = await start();
  const signals = createLocalSignals();
  f.ctx.signals = signals;
  f.placer = createPlacer(f.ctx);
  return { f, signals };
}

/** Enrolls a host with networks whose sets fill it one by one. */
async function enroll(
  f: FleetContext,
  name: string,
  tunnelAddress: string,
  cpuMillis = 1_000,
): Promise<string> {
  const hostId = await f.enroll(name, { allocatable: { ...smallHost, cpuMillis } });
  await setFeatures(f, hostId, ["networks", "ports"]);
  await f.ctx.db.execute(
    sql`update hosts set capabilities = capabilities || ${JSON.stringify({ tunnelAddress })}::jsonb where id = ${hostId}`,
  );
  return hostId;
}

/** Reads as the only host of an API process. */
const read = (f: FleetContext, hostId: string, version?: string, waitMs = 0) =>
  readHostNetworks(f.ctx, new NetworkFeeds(f.ctx), hostId, { version, waitMs }, signal);

test("a host learns the ports of other hosts in the networks of its sets", async () => {
  const f = await start();
  const ids = new Map<string | null | undefined, string>();
  for (const [place, name] of ["one", "two", "idle"].entries())
    ids.set(name, await enroll(f, name, `192.0.2.${place + 1}`));
  const idOf = (name: string | null | undefined) => ids.get(name) ?? "";
  await createService(f.ctx, f.tenantId, serviceBody("web", { replicas: 2 }));
  await f.placer.placeSets();
  const [first, second] = await listLiveSets(f);
  const addresses = await listAddresses(f);
  const addressOf = (setId: string | undefined) =>
    addresses.find((address) => address.setId === setId);
  expect(first?.host).not.toBe(second?.host);
  for (const [own, other] of [
    [first, second],
    [second, first],
  ]) {
    const { networks, version } = await read(f, idOf(own?.host));
    const port = addressOf(other?.id);
    expect(networks).toMatchObject([
      {
        vni: 4_097,
        gateways: ["10.64.0.1"],
        remotePorts: [{ mac: port?.mac, addresses: [port?.address] }],
      },
    ]);
    networkStateSchema.parse({ source: "agent", version: 1, tunnelAddress: null, networks });
    expect(await read(f, idOf(own?.host), version)).toEqual({ version, networks: null });
  }
  const used = [first?.host, second?.host];
  const idle = [...ids.keys()].find((name) => !used.includes(name));
  expect((await read(f, idOf(idle))).networks).toEqual([]);
});

test("a placement wakes the hosts of its networks, which then learn its port", async () => {
  const { f, signals } = await startWithSignals();
  const one = await enroll(f, "one", "192.0.2.1");
  await createService(f.ctx, f.tenantId, serviceBody("web"));
  await f.placer.placeSets();
  const { version, networks } = await read(f, one);
  expect(networks).toMatchObject([{ remotePorts: [] }]);
  const woken = read(f, one, version, 10_000);
  const channel = `network:${networks?.[0]?.networkId}` as const;
  await waitUntil("the host waits", () => signals.isAwaited(channel) || undefined);
  await f.ctx.db.execute(sql`update hosts set cordoned = true where id = ${one}`);
  await enroll(f, "two", "192.0.2.2");
  await createService(f.ctx, f.tenantId, serviceBody("next"));
  await f.placer.placeSets();
  const answer = await woken;
  expect(signals.published).toContain(channel);
  expect(answer.networks).toMatchObject([
    { remotePorts: [{ addresses: ["10.64.0.3"], tunnelAddress: "192.0.2.2" }] },
  ]);
});

test("the first set on a host wakes it, although it follows no network yet", async () => {
  const { f, signals } = await startWithSignals();
  const one = await enroll(f, "one", "192.0.2.1");
  const { version, networks } = await read(f, one);
  expect(networks).toEqual([]);
  const woken = read(f, one, version, 10_000);
  await waitUntil("the host waits", () => signals.isAwaited(`host:${one}`) || undefined);
  await createService(f.ctx, f.tenantId, serviceBody("web"));
  await f.placer.placeSets();
  expect((await woken).networks).toMatchObject([{ name: "default", remotePorts: [] }]);
});

test("a host learns the services of its networks, whose members are endpoints as in the list", async () => {
  const f = await start({ hostLostGraceMs: 0 });
  const h1 = await enroll(f, "h1", "192.0.2.1", 4_000);
  const { template, ...web } = serviceBody("web", { replicas: 3 });
  const ports = [{ name: "http", port: 80, protocol: "tcp" as const }];
  await createService(f.ctx, f.tenantId, { ...web, template: { ...template, ports } });
  await createService(f.ctx, f.tenantId, serviceBody("db"));
  await f.placer.placeSets();
  const expectEndpoints = async (total: number): Promise<void> => {
    const { networks } = await read(f, h1);
    networkStateSchema.parse({ source: "agent", version: 1, tunnelAddress: null, networks });
    const services = networks?.[0]?.services ?? [];
    expect(services.map(({ name }) => name)).toEqual(["db", "web"]);
    expect(services.map((service) => service.ports)).toEqual([[], ports]);
    const web = services[1];
    const { endpoints } = await listEndpoints(f.ctx, f.tenantId, "web");
    const found = web?.members.filter(({ isEndpoint }) => isEndpoint) ?? [];
    expect(found.map(({ setId, addresses }) => [setId, addresses])).toEqual(
      endpoints.map(({ setId, interfaces }) => [setId, interfaces[0]?.addresses]),
    );
    expect(found).toHaveLength(total);
    const stored = await listAddresses(f);
    for (const { setId, addresses } of web?.members ?? [])
      expect(addresses).toEqual([stored.find((each) => each.setId === setId)?.address]);
  };
  await expectEndpoints(0);
  await obeyOrders(f, h1);
  await expectEndpoints(3);
  const webIds = (await listEndpoints(f.ctx, f.tenantId, "web")).endpoints.map((e) => e.setId);
  await controlSet(f.ctx, null, webIds[0] ?? "", "stop");
  await expectEndpoints(2);
  // The drain replaces the sets: the replaced ones leave when their replacements are available.
  const h2 = await enroll(f, "h2", "192.0.2.2", 4_000);
  await drainHost(f.ctx, h1);
  const mover = createMover(f.ctx);
  for (let round = 0; round < 4; round++) {
    await mover.moveSets();
    await f.placer.placeSets();
    await obeyOrders(f, h2);
    await expectEndpoints(2);
  }
  const { networks } = await read(f, h1);
  expect(networks?.[0]?.services[1]?.members.length).toBeGreaterThan(3);
});

test("a readiness change in a network with 100 hosts reaches each host with one read", async () => {
  const { f, signals } = await startWithSignals();
  const hostIds: string[] = [];
  for (let place = 1; place <= HOSTS; place++)
    hostIds.push(await enroll(f, `h${place}`, `192.0.2.${place}`));
  await createService(f.ctx, f.tenantId, serviceBody("web", { replicas: HOSTS }));
  await f.placer.placeSets();
  for (const hostId of hostIds) await obeyOrders(f, hostId);
  let reads = 0;
  const feeds = new NetworkFeeds(f.ctx, (...args) => {
    reads += 1;
    return findFleetNetwork(...args);
  });
  const poll = (hostId: string, version?: string, waitMs = 0) =>
    readHostNetworks(f.ctx, feeds, hostId, { version, waitMs }, signal);
  const before = await Promise.all(hostIds.map((hostId) => poll(hostId)));
  const [network] = before[0]?.networks ?? [];
  await waitUntil(
    "the feed waits",
    () => signals.isAwaited(`service:${network?.services[0]?.serviceId}`) || undefined,
  );
  await pause(500); // the placement's and the agents' signals are over
  const readsBefore = reads;
  const woken = hostIds.map((hostId, place) => poll(hostId, before[place]?.version, 20_000));
  await waitUntil("the hosts wait", () => signals.isAwaited(`host:${hostIds.at(-1)}`) || undefined);
  const [unready] = hostIds;
  const { sets } = await f.sync(unready ?? "", { full: true });
  const startedAtMs = performance.now();
  await f.sync(unready ?? "", {
    observed: sets.map((set) => observed(set, "running", { ready: false })),
  });
  const answers = await Promise.all(woken);
  const elapsedMs = performance.now() - startedAtMs;
  expect(reads).toBe(readsBefore + 1);
  console.log(`${HOSTS} hosts learned of a change after ${elapsedMs.toFixed(0)} ms`);
  for (const [place, { networks }] of answers.entries()) {
    const members = networks?.[0]?.services[0]?.members ?? [];
    expect(members.filter(({ isEndpoint }) => !isEndpoint).map(({ setId }) => setId)).toEqual(
      sets.map(({ setId }) => setId),
    );
    const ports = networks?.[0]?.remotePorts ?? [];
    expect(ports).toHaveLength(HOSTS - 1);
    expect(ports.map(({ tunnelAddress }) => tunnelAddress)).not.toContain(`192.0.2.${place + 1}`);
  }
  expect(signals.published.filter((name) => name.startsWith("network:"))).toHaveLength(1);
});

test("a host whose driver fails stays reachable, and its new address wakes the others", async () => {
  const f = await start();
  const [one, two] = [await enroll(f, "one", "192.0.2.1"), await enroll(f, "two", "192.0.2.2")];
  await createService(f.ctx, f.tenantId, serviceBody("web", { replicas: 2 }));
  await f.placer.placeSets();
  const remoteAddresses = async (hostId: string) =>
    (await read(f, hostId)).networks?.[0]?.remotePorts.map((port) => port.tunnelAddress);
  const report = async (version: string, features: string[], tunnelAddress: string | null) => {
    const capabilities = { ...emptyCapabilities, features, tunnelAddress };
    const caller = { hostId: two, capabilitiesVersion: null };
    f.signals.length = 0;
    await noteCapabilities(f.ctx, caller, { version, capabilities });
    return f.signals.filter((channel) => channel.startsWith("network:"));
  };
  expect(await report("a", [], null)).toEqual([]);
  expect(await remoteAddresses(one)).toEqual(["192.0.2.2"]);
  expect(await report("b", ["networks"], "192.0.2.3")).toHaveLength(1);
  expect(await remoteAddresses(one)).toEqual(["192.0.2.3"]);
});

test("hundreds of hosts that call in the same moment share reads", async () => {
  const f = await start();
  const hostId = await enroll(f, "one", "192.0.2.1");
  const feeds = new NetworkFeeds(f.ctx);
  const query = { version: undefined, waitMs: 0 };
  const answers = await Promise.all(
    Array.from({ length: 600 }, () => readHostNetworks(f.ctx, feeds, hostId, query, signal)),
  );
  expect(new Set(answers.map(({ version }) => version)).size).toBe(1);
});

test("a wait without a signal ends without another read", async () => {
  const f = await start();
  const hostId = await enroll(f, "one", "192.0.2.1");
  const { version } = await read(f, hostId);
  expect(await read(f, hostId, version, 60_000)).toEqual({ version, networks: null });
});
