import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createSetEngine } from "../../src/agent/engine/set-engine.ts";
import type { LocalSetSpec } from "../../src/agent/model/local-set.ts";
import type { SetPort } from "../../src/agent/ports/set-port.ts";
import type { HostNetwork } from "../../src/contracts/network-driver/network-state.ts";
import { createNetworkDriverClient } from "../../src/host-adapters/network-driver-client/network-driver-client.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";
import { composeEnginePorts } from "../../src/main/compose/set-engine.ts";
import { localSet } from "../support/agent/local-set.ts";
import { removeHost } from "../support/docker/docker-host.ts";
import { type DnsClient, type DnsQuery, startDnsClient } from "../support/network/dns-client.ts";
import {
  type DriverHost,
  fetchFrom,
  readInterface,
  serveText,
  shell,
  startDriverHost,
  tryFetch,
} from "../support/network/driver-host.ts";
import { networkBasics } from "../support/network/host-network.ts";
import { addNamespace } from "../support/network/machine-traces.ts";
import {
  startResolver,
  startUnboundUnit,
  type UnboundUnit,
} from "../support/network/unbound-unit.ts";
import { startChildServer } from "../support/servers/child-server.ts";
import { waitUntil } from "../support/wait-until.ts";

const run = promisify(execFile);
const { signal } = new AbortController();
const hostId = newId("host");
const namespace = `berth-names-${randomBytes(3).toString("hex")}`;
const resolverAddress = "127.0.0.5";
const gateway = "10.64.0.1";
type Service = HostNetwork["services"][number];

/** Two tenants, whose networks have equal names and addresses. */
const red = { networkId: newId("net"), tenantId: newId("tnt"), vni: 5001 };
const blue = { networkId: newId("net"), tenantId: newId("tnt"), vni: 5002 };
/** Another network of the tenant of `red`. */
const back = { networkId: newId("net"), tenantId: red.tenantId, vni: 5003 };

/** A network without an IPv4 subnet. */
const six = { networkId: newId("net"), tenantId: red.tenantId, vni: 5004 };

let resolver: { close(): Promise<void> };
let unit: UnboundUnit;
let host: DriverHost;
let version = 0;

beforeAll(async () => {
  await addNamespace(namespace);
  await run("ip", ["-n", namespace, "link", "set", "lo", "up"]);
  resolver = await startResolver(namespace, resolverAddress, [
    "www.example.com. 60 IN A 192.0.2.7",
  ]);
  unit = await startUnboundUnit(namespace);
  host = await startDriverHost(undefined, {
    namespace,
    outboundSubnet: "198.19.0.0/16",
    settings: {
      BERTH_NETWORK_DNS: "true",
      BERTH_NETWORK_DNS_DIR: unit.folder,
      BERTH_NETWORK_DNS_RESOLVERS: resolverAddress,
    },
  });
  await waitUntil("the host has names", async () => (await host.status()).names.state === "up");
});
afterAll(async () => {
  await removeHost(host.docker, hostId);
  await host.close();
  await unit.close();
  await resolver.close();
  await run("ip", ["netns", "delete", namespace]);
});

function openEngine(hasNames?: false): SetPort {
  const client = createNetworkDriverClient(host.controlSocket);
  const names = { state: "off" as const, reason: null };
  const driver =
    hasNames === undefined
      ? client
      : { ...client, status: async () => ({ ...(await client.status(signal)), names }) };
  return createSetEngine(
    composeEnginePorts({
      docker: host.docker,
      hostId,
      log: silentLog,
      networkDriver: { driver, plugin: host.plugin },
    }),
  );
}

function setIn({ networkId, vni }: typeof red, last: number): LocalSetSpec {
  const options = { command: ["/bin/sh", "-c", "sleep 100000"] };
  const attachment = {
    networkId,
    vni,
    interface: "eth0",
    mac: `0a:00:0a:40:00:${last.toString(16).padStart(2, "0")}`,
    addresses: [`10.64.0.${last}/16`],
    gateways: [gateway],
  };
  return { ...localSet({ options }), attachments: [attachment] };
}

function setInSix(last: number): LocalSetSpec {
  const options = { command: ["/bin/sh", "-c", serveText(`six ${last}`)] };
  const attachment = {
    networkId: six.networkId,
    vni: six.vni,
    interface: "eth0",
    mac: `0a:06:00:00:00:${last}`,
    addresses: [`fd00:64::${last}/64`],
    gateways: ["fd00:64::1"],
  };
  return { ...localSet({ options }), attachments: [attachment] };
}

const containerOf = ({ setId }: LocalSetSpec, name = "infra") =>
  host.docker.getContainer(`berth-${setId}-${name}`);

async function start(set: LocalSetSpec, engine = openEngine()): Promise<void> {
  expect(await engine.prepare(set, signal)).toEqual([]);
  await engine.start(set, ["app"], signal);
}

/** Queries Docker's resolver in the network namespace of a set. */
async function withClient<T>(
  set: LocalSetSpec,
  work: (
    resolve: (name: string, query?: Partial<DnsQuery>) => ReturnType<DnsClient["resolve"]>,
  ) => Promise<T>,
): Promise<T> {
  const { State } = await containerOf(set).inspect();
  const client = startDnsClient(["nsenter", `--net=/proc/${State.Pid}/ns/net`]);
  try {
    return await work((name, query) => client.resolve({ name, server: "127.0.0.11", ...query }));
  } finally {
    client.close();
  }
}

function network(
  { networkId, tenantId, vni }: typeof red,
  services: Service[],
  name = "default",
): HostNetwork {
  const basics = { ...networkBasics, gateways: [gateway], remotePorts: [] };
  return { ...basics, networkId, tenantId, vni, name, services };
}

function service(name: string, changes: Partial<Service>): Service {
  return { serviceId: newId("svc"), name, addresses: [], members: [], ports: [], ...changes };
}

async function put(...networks: HostNetwork[]): Promise<void> {
  version += 1;
  const state = { source: "test", version, tunnelAddress: null, networks };
  const { status, body } = await host.control("PUT", "/v1/network-state", state);
  expect([status, body]).toEqual([200, expect.objectContaining({ isApplied: true })]);
}

const setName = ({ setId }: LocalSetSpec) => setId.replace("_", "-");
const member = (set: LocalSetSpec, last: number) => ({
  setId: set.setId,
  addresses: [`10.64.0.${last}`],
  isEndpoint: true,
});
const port = { name: "http", protocol: "tcp" as const, port: 8080 };

describe("a set", () => {
  it("resolves the services, sets and ports of its tenant, other names, and nothing else", async () => {
    const [one, two] = [setIn(red, 11), setIn(blue, 12)];
    const web = service("web", {
      addresses: ["10.64.9.9"],
      members: [member(one, 11)],
      ports: [port],
    });
    const headless = service("db", { members: [member(one, 11), member(two, 12)] });
    await put(
      network(red, [web, headless]),
      network(blue, [service("web", { addresses: ["10.64.7.7"] }), service("own", {})]),
      network(back, [service("queue", { addresses: ["10.65.0.9"] })], "back"),
    );
    await Promise.all([start(one), start(two)]);
    await withClient(one, async (resolve) => {
      await waitUntil("names are answered", async () => {
        expect(await resolve("web.berth.internal")).toEqual(["10.64.9.9"]);
        return true;
      });
      expect(await resolve("web.default.berth.internal")).toEqual(["10.64.9.9"]);
      expect(await resolve("queue.back.berth.internal")).toEqual(["10.65.0.9"]);
      expect(await resolve(`${setName(one)}.web.berth.internal`)).toEqual(["10.64.0.11"]);
      expect(await resolve("_http._tcp.web.berth.internal", { type: "SRV" })).toEqual([
        "8080 web.berth.internal",
      ]);
      const addresses = await resolve("db.berth.internal");
      expect(new Set(addresses)).toEqual(new Set(["10.64.0.11", "10.64.0.12"]));
      expect(await resolve("web.berth.internal", { tcp: true })).toEqual(["10.64.9.9"]);
      expect(await resolve("www.example.com")).toEqual(["192.0.2.7"]);
      for (const name of ["missing.berth.internal", "own.berth.internal", "none.example.com"])
        expect(await resolve(name)).toBe("NXDOMAIN");
    });
    await withClient(two, async (resolve) => {
      expect(await resolve("web.berth.internal")).toEqual(["10.64.7.7"]);
      expect(await resolve("own.berth.internal")).toEqual([]);
      for (const name of ["db", "queue.back", "queue", `${setName(one)}.web`])
        expect(await resolve(`${name}.berth.internal`)).toBe("NXDOMAIN");
    });
    const config = await shell(containerOf(one, "app"), "cat /etc/resolv.conf");
    expect(config).toContain("search berth.internal");
    expect(config).toContain("ndots:1");
  });

  it("resolves names even if a rule denies all its connections", async () => {
    const set = setIn(red, 19);
    const rule = {
      ruleId: newId("rule"),
      name: "deny-all",
      priority: 9_999,
      direction: "egress" as const,
      action: "deny" as const,
      protocol: "any" as const,
      ports: [],
      serviceId: null,
      peer: { kind: "any" as const },
    };
    const web = service("web", { addresses: ["10.64.9.9"] });
    await put({ ...network(red, [web]), rules: [rule] });
    await start(set);
    await withClient(set, async (resolve) => {
      await waitUntil("names are answered", async () => {
        expect(await resolve("web.berth.internal")).toEqual(["10.64.9.9"]);
        return true;
      });
      expect(await resolve("www.example.com")).toEqual(["192.0.2.7"]);
      // The rule is in force.
      expect(await resolve("web.berth.internal", { server: "203.0.113.9" })).toBe("TIMEOUT");
    });
  });

  it("resolves names without an IPv4 subnet, and sends nothing else over IPv4", async () => {
    const [one, two] = [setInSix(11), setInSix(12)];
    const web = service("web", { addresses: ["fd00:64::9:9"] });
    const state = { ...network(six, [web], "six"), gateways: ["fd00:64::1"] };
    await put(state);
    const engine = openEngine(); // only one agent creates the network in Docker
    for (const set of [one, two]) await start(set, engine);
    await withClient(one, async (resolve) => {
      await waitUntil("names are answered", async () => {
        expect(await resolve("web.berth.internal", { type: "AAAA" })).toEqual(["fd00:64::9:9"]);
        return true;
      });
      expect(await resolve("web.berth.internal", { type: "AAAA", tcp: true })).toHaveLength(1);
      expect(await resolve("web.berth.internal")).toEqual([]);
      expect(await resolve("www.example.com")).toEqual(["192.0.2.7"]);
      // The address of the other set for its own queries.
      expect(await resolve("web.berth.internal", { server: "240.0.0.18" })).toBe("TIMEOUT");
    });
    expect(await fetchFrom(containerOf(one), "fd00:64::12")).toBe("six 12");
    expect(await tryFetch(containerOf(one), "240.0.0.18")).toBeUndefined();
    const routes = await shell(containerOf(one, "app"), "ip route; ip -6 route");
    expect(routes).not.toContain("default");
    expect((await readInterface(containerOf(one))).mac).toBe("0a:06:00:00:00:11");
  });

  it("reaches no other port of the gateway or of the name server, and no other server there", async () => {
    const set = setIn(red, 13);
    await put(network(red, [service("web", { addresses: ["10.64.9.9"] })]));
    await start(set);
    const listen = ["nc", "-l", "-k", "-p", "8053"];
    const onHost = ["netns", "exec", namespace, "busybox", ...listen];
    const other = startChildServer("ip", onHost);
    await withClient(set, async (resolve) => {
      await waitUntil("names are answered", async () => {
        expect(await resolve("web.berth.internal", { server: gateway })).toEqual(["10.64.9.9"]);
        return true;
      });
      // An address of the host that is not that of the name server.
      expect(await resolve("web.berth.internal", { server: "198.19.0.7" })).toBe("TIMEOUT");
    });
    const { State } = await containerOf(set).inspect();
    for (const address of [gateway, "198.19.255.255"]) {
      const enter = [`--net=/proc/${State.Pid}/ns/net`, "timeout", "2", "bash", "-c"];
      const attempt = run("nsenter", [...enter, `exec 3<>/dev/tcp/${address}/8053`]);
      await expect(attempt).rejects.toMatchObject({ code: 124 });
    }
    await other.kill();
  });

  it("stays as it is when its host gets a name server, and new ones use it", async () => {
    const [before, after] = [setIn(red, 14), setIn(red, 15)];
    await start(before, openEngine(false));
    const { Id, HostConfig } = await containerOf(before).inspect();
    expect(HostConfig.Dns ?? []).toEqual([]);
    expect(await openEngine().prepare(before, signal)).toEqual([]);
    expect((await containerOf(before).inspect()).Id).toBe(Id);
    await start(after);
    expect((await containerOf(after).inspect()).HostConfig.Dns).toEqual([gateway]);
  });
});

describe("names", () => {
  it("change within 500 ms of the network state", async () => {
    const set = setIn(red, 16);
    await put(network(red, [service("web", { addresses: ["10.64.9.1"] })]));
    await start(set);
    await withClient(set, async (resolve) => {
      const delays: number[] = [];
      for (let last = 1; last <= 10; last += 1) {
        await put(network(red, [service("web", { members: [member(set, last)] })]));
        const startedAtMs = performance.now();
        await waitUntil(
          "the name has changed",
          async () => {
            expect(await resolve("web.berth.internal")).toEqual([`10.64.0.${last}`]);
            return true;
          },
          { everyMs: 5 },
        );
        delays.push(performance.now() - startedAtMs);
      }
      const [, , , , median = Infinity] = delays.sort((a, b) => a - b);
      expect(median).toBeLessThan(500);
    });
  });

  it("are answered while the driver is dead, even by a restarted name server", async () => {
    const set = setIn(red, 17);
    await put(network(red, [service("web", { addresses: ["10.64.9.9"] })]));
    await start(set);
    await withClient(set, async (resolve) => {
      const expectNames = (address: string) =>
        waitUntil("names are answered", async () => {
          expect(await resolve("web.berth.internal")).toEqual([address]);
          expect(await resolve("www.example.com")).toEqual(["192.0.2.7"]);
          return true;
        });
      await expectNames("10.64.9.9");
      await host.endDriver("SIGKILL");
      expect(await resolve("web.berth.internal")).toEqual(["10.64.9.9"]);
      process.kill(await unit.findPid(), "SIGKILL");
      await expectNames("10.64.9.9");
      await host.startDriver();
      await expectNames("10.64.9.9");
      await put(network(red, [service("web", { addresses: ["10.64.9.8"] })]));
      await expectNames("10.64.9.8");
    });
  });

  it("fail with a reason in the status, while the driver is ready and sets start", async () => {
    await unit.stop();
    await waitUntil("the status has the failure", async () => {
      expect(await host.status()).toMatchObject({
        isReady: true,
        names: { state: "down", reason: expect.stringContaining("berth-dns") },
      });
      return true;
    });
    const set = setIn(red, 18);
    await start(set);
    expect((await containerOf(set).inspect()).HostConfig.Dns).toEqual([gateway]);
  });
});
