import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { isIP } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { promisify } from "node:util";
import type Docker from "dockerode";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { Host } from "../../src/contracts/api/hosts.ts";
import type { Endpoint, EndpointList } from "../../src/contracts/api/endpoints.ts";
import type { Service } from "../../src/contracts/api/services.ts";
import type { BerthSet } from "../../src/contracts/api/sets.ts";
import { baseImage } from "../support/docker/docker.ts";
import {
  type DriverHost,
  fetchFrom,
  serveText,
  shell,
  startDriverHost,
  tryFetch,
} from "../support/network/driver-host.ts";
import { startDnsClient } from "../support/network/dns-client.ts";
import { addNamespace } from "../support/network/machine-traces.ts";
import { startUnboundUnit } from "../support/network/unbound-unit.ts";
import { type BerthProcess, startBerth } from "../support/servers/berth-process.ts";
import { type MainProcess, startMain } from "../support/servers/main-process.ts";
import { createTestDatabase, createTestRedis } from "../support/servers/test-services.ts";
import { waitUntil } from "../support/wait-until.ts";

/**
 * Two hosts with Docker, Open vSwitch, network driver and agent, in a network namespace each. A
 * link joins them, and one API serves both agents. Each test continues the state of the previous
 * one.
 */
const run = promisify(execFile);
const deadlineMs = 60_000;
/** A change of the endpoints is effective on all hosts after this time. */
const ENDPOINTS_EFFECTIVE_MS = 2_000;
const names = ["first", "second"] as const;
type HostName = (typeof names)[number];
/** The address of the first host that other machines reach. */
const clientSideAddress = "203.0.113.1";

const closing: (() => Promise<unknown>)[] = [];
const machines = new Map<string, DriverHost>();
const agents: MainProcess[] = [];
let berth: BerthProcess;

beforeAll(async () => {
  const namespaces = names.map((name) => `berth-${process.pid}-${name}`);
  for (const namespace of namespaces) {
    await addNamespace(namespace);
    closing.push(() => run("ip", ["netns", "delete", namespace]));
  }
  const [one = "", two = ""] = namespaces;
  const peer = ["peer", "name", "uplink", "netns", two];
  await run("ip", ["-n", one, "link", "add", "uplink", "type", "veth", ...peer]);
  for (const [place, name] of names.entries()) {
    const underlay = { tunnelAddress: addressOf(place), uplink: "uplink" };
    const namespace = namespaces[place] ?? "";
    const host = await startDriverHost(undefined, {
      namespace,
      underlay,
      // Only the first host has a name server.
      ...(name === "first" ? await startNameServer(namespace) : {}),
    });
    machines.set(name, host);
    closing.push(() => host.close());
  }
  const [database, redis] = await Promise.all([createTestDatabase(), createTestRedis()]);
  closing.push(() => Promise.all([database.drop(), redis.release()]));
  berth = await startBerth({
    DATABASE_URL: database.url,
    REDIS_URL: redis.url,
    BERTH_REDIS_PREFIX: redis.prefix,
    BERTH_DATA_DIR: await createFolder(),
    ...agentSettings("first", 0),
  });
  closing.push(() => berth.end("SIGTERM"));
  await berth.request("PUT", "/v1/host-pools/default", {
    // Other load on this machine must not reject the sets.
    highWaterPercent: { cpuMillis: 1000, memoryBytes: 1000, rootfsBytes: 100 },
  });
  const token = { name: "second", role: "enroll" };
  const { secret } = await berth.request<{ secret: string }>("POST", "/v1/tokens", token);
  agents.push(
    await startMain("host-agent", {
      BERTH_API_URL: berth.apiUrl,
      BERTH_ENROLL_TOKEN: secret,
      BERTH_AGENT_DATA_DIR: await createFolder(),
      ...agentSettings("second", 1),
    }),
  );
  closing.push(() => Promise.all(agents.map((agent) => agent.end("SIGTERM"))));
  for (const [place, name] of names.entries())
    await waitUntil(`${name} has networks`, async () => {
      const { capabilities } = await getHost(name);
      return (
        capabilities?.features.includes("networks") &&
        capabilities.features.includes("names") === (name === "first") &&
        capabilities.tunnelAddress === addressOf(place)
      );
    });
});

afterAll(async () => {
  for (const close of closing.toReversed()) await close();
});

async function startNameServer(namespace: string) {
  await run("ip", ["-n", namespace, "link", "set", "lo", "up"]);
  const unit = await startUnboundUnit(namespace);
  closing.push(() => unit.close());
  return {
    outboundSubnet: "198.19.0.0/16",
    settings: {
      BERTH_NETWORK_DNS: "true",
      BERTH_NETWORK_DNS_DIR: unit.folder,
      BERTH_NETWORK_DNS_RESOLVERS: "127.0.0.5",
    },
  };
}

/** Resolves a name in a set as its processes would, and fetches the page from that address. */
async function fetchByName(from: BerthSet, name: string): Promise<string> {
  const { State } = await infraOf(from).inspect();
  const client = startDnsClient(["nsenter", `--net=/proc/${State.Pid}/ns/net`]);
  try {
    const address = await waitUntil(`${name} resolves`, async () => {
      const [first] = [await client.resolve({ name, server: "127.0.0.11" })].flat();
      return isIP(first ?? "") === 4 && first;
    });
    return await fetchFrom(infraOf(from), address);
  } finally {
    client.close();
  }
}

const addressOf = (place: number) => `172.31.0.${place + 1}`;

async function createFolder(): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), "berth-two-hosts-"));
  closing.push(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

function agentSettings(name: HostName, place: number): Record<string, string> {
  const host = machine(name);
  return {
    BERTH_AGENT_NAME: name,
    BERTH_AGENT_SELF_TEST: "off",
    BERTH_DOCKER_SOCKET: host.privateDocker.socketPath,
    BERTH_VOLUME_BACKEND: "none",
    BERTH_NETWORK_PLUGIN: host.plugin,
    BERTH_NETWORK_CONTROL_SOCKET: host.controlSocket,
    BERTH_TUNNEL_ADDRESS: addressOf(place),
    // Only the first host has an address at which it publishes ports.
    ...(name === "first" ? { BERTH_HOST_ADDRESS: clientSideAddress } : {}),
  };
}

/** Starts a machine beside the first host, in a network namespace. Returns the namespace. */
async function startClient(): Promise<string> {
  const [host, client] = [`berth-${process.pid}-first`, `berth-${process.pid}-client`];
  await run("ip", ["netns", "add", client]);
  closing.push(() => run("ip", ["netns", "delete", client]));
  const peer = ["peer", "name", "eth0", "netns", client];
  await run("ip", ["-n", host, "link", "add", "wan", "type", "veth", ...peer]);
  for (const [namespace, device, address] of [
    [host, "wan", clientSideAddress],
    [client, "eth0", "203.0.113.9"],
  ] as const) {
    await run("ip", ["-n", namespace, "addr", "add", `${address}/24`, "dev", device]);
    await run("ip", ["-n", namespace, "link", "set", device, "up"]);
  }
  return client;
}

/** The page at an address that a machine gets, or undefined if it gets none in two seconds. */
async function fetchAt(namespace: string, url: string): Promise<string | undefined> {
  const script = `import urllib.request; print(urllib.request.urlopen("${url}", timeout=2).read().decode())`;
  const args = ["netns", "exec", namespace, "/usr/bin/python3", "-c", script];
  const { stdout } = await run("ip", args).catch(() => ({ stdout: undefined }));
  return stdout?.trim();
}

function machine(name: string | undefined): DriverHost {
  const host = machines.get(name ?? "");
  if (!host) throw new Error(`no host ${name}`);
  return host;
}

async function getHost(name: string): Promise<Host> {
  const { items } = await berth.request<{ items: Host[] }>("GET", "/v1/hosts");
  const host = items.find((item) => item.name === name);
  if (!host) throw new Error(`${name} is not enrolled`);
  return host;
}

/** The set of a service once it is ready, and no other one of it is left. */
async function readySet(service: string, hostName?: HostName): Promise<BerthSet> {
  return waitUntil(
    `${service} is ready`,
    async () => {
      const { items } = await berth.request<{ items: BerthSet[] }>("GET", "/v1/sets");
      const sets = items.filter((set) => set.service === service);
      const [set] = sets;
      const isThere = hostName === undefined || set?.host?.name === hostName;
      if (sets.length === 1 && set?.ready && isThere) return set;
      const states = sets.map(({ host, state, reason }) => [host?.name, state, reason?.text]);
      throw new Error(JSON.stringify(states));
    },
    { deadlineMs },
  );
}

/** Creates a service of one set, which answers with a text, its name by default, and is probed. */
async function createService(
  name: string,
  networks?: string[],
  text = name,
  { ports, ...more }: { ports?: object[]; gatewayPorts?: object[] } = {},
): Promise<void> {
  const command = ["/bin/sh", "-c", serveText(text)];
  const health = { http: { port: 80, path: "/" }, intervalSeconds: 1 };
  const options = { cpu: 100, memory: 100, command, health, stopTimeoutSeconds: 0 };
  await berth.request("POST", "/v1/services", {
    name,
    replicas: 1,
    ...more,
    template: {
      ...(ports && { ports }),
      cpu: 0.05,
      memory: "32Mi",
      rootfs: "16Mi",
      containers: [{ index: 0, name: "app", image: baseImage, options }],
      ...(networks && { networks: networks.map((network) => ({ network })) }),
    },
  });
}

async function cordon(name: HostName, change: "cordon" | "uncordon"): Promise<void> {
  const { id } = await getHost(name);
  await berth.request("POST", `/v1/hosts/${id}/${change}`);
}

const infraOf = (set: BerthSet): Docker.Container =>
  machine(set.host?.name).docker.getContainer(`berth-${set.id}-infra`);

/** The IPv4 addresses of a set that its container has in networks. */
async function addressesOf(set: BerthSet): Promise<string[]> {
  const text = await shell(infraOf(set), "ip -4 addr");
  return [...text.matchAll(/inet (10\.\S+)\//g)].map(([, address]) => address ?? "").sort();
}

/** Both directions, by real packets. */
async function expectConnected(one: BerthSet, two: BerthSet): Promise<void> {
  for (const [from, to] of [
    [one, two],
    [two, one],
  ] as const)
    for (const address of await addressesOf(to))
      expect(await fetchFrom(infraOf(from), address)).toBe(to.service);
}

it("sets of a network reach each other by address on two hosts", async () => {
  await cordon("second", "cordon");
  await createService("one");
  const one = await readySet("one", "first");
  await cordon("second", "uncordon");
  await cordon("first", "cordon");
  await createService("two");
  const two = await readySet("two", "second");
  expect(await addressesOf(one)).toEqual([one.address]);
  expect(await fetchFrom(infraOf(one), two.address ?? "")).toBe("two");
  await expectConnected(one, two);
  await cordon("first", "uncordon");
});

const appOf = (set: BerthSet): Docker.Container =>
  machine(set.host?.name).docker.getContainer(`berth-${set.id}-app`);

const addRule = (rule: Record<string, unknown>) =>
  berth.request("POST", "/v1/rules", {
    rules: [{ network: "default", action: "deny", ...rule }],
  });
const deleteRule = (name: string) => berth.request("DELETE", `/v1/rules/${name}`);

/** Whether a new connection to port 80 of the set opens within a second. */
const canConnect = async (from: BerthSet, to: BerthSet) =>
  (await shell(infraOf(from), `nc -w 1 ${to.address ?? ""} 80 </dev/null; echo $?`)).endsWith("0");
const canPing = async (from: BerthSet, to: BerthSet) =>
  (await shell(infraOf(from), `ping -c 1 -W 1 ${to.address ?? ""}; echo $?`)).endsWith("0");

/** Changes rules, and expects their effect on a packet that leaves within two seconds. */
async function expectWithinTwoSeconds(
  change: () => Promise<unknown>,
  hasEffect: () => Promise<boolean>,
): Promise<void> {
  await change();
  const changedAtMs = performance.now();
  let attemptAtMs = changedAtMs;
  await waitUntil("the rules are in force", async () => {
    attemptAtMs = performance.now();
    return hasEffect();
  });
  const [leastMs, mostMs] = [attemptAtMs - changedAtMs, performance.now() - changedAtMs];
  console.log(`rules in force after ${leastMs.toFixed(0)} to ${mostMs.toFixed(0)} ms`);
  expect(leastMs).toBeLessThan(2_000);
}

it("rules close and open connections on both hosts within two seconds", async () => {
  const [one, two] = [await readySet("one", "first"), await readySet("two", "second")];
  const tcp = { protocol: "tcp", ports: [80] };
  // At the receiver: only TCP, and only in this direction.
  const closed = { ...tcp, name: "closed", direction: "ingress", service: "two" };
  await expectWithinTwoSeconds(
    () => addRule({ ...closed, peer: { service: "one" } }),
    async () => !(await canConnect(one, two)),
  );
  expect(await canPing(one, two)).toBe(true);
  expect(await canConnect(two, one)).toBe(true);
  const explain = `/v1/rules/explain?from=${one.id}&to=${two.id}&port=80`;
  expect(await berth.request("GET", explain)).toMatchObject({
    verdict: "denied",
    paths: [{ ingress: { rule: { name: "closed" } } }],
  });
  const opened = { ...closed, name: "opened", action: "allow", priority: 2_000 };
  await expectWithinTwoSeconds(
    () => addRule({ ...opened, peer: { cidr: one.address } }),
    () => canConnect(one, two),
  );
  expect(await berth.request("GET", explain)).toMatchObject({ verdict: "allowed" });
  // At the sender, on the other host.
  await expectWithinTwoSeconds(
    () =>
      addRule({ ...tcp, name: "held", direction: "egress", service: "one", peer: { any: true } }),
    async () => !(await canConnect(one, two)),
  );
  expect(await canConnect(two, one)).toBe(true);
  await deleteRule("opened");
  await deleteRule("closed");
  await expectWithinTwoSeconds(
    () => deleteRule("held"),
    () => canConnect(one, two),
  );
  await expectConnected(one, two);
});

it("a rule leaves open connections", async () => {
  const [one, two] = [await readySet("one"), await readySet("two")];
  const inBackground = (set: BerthSet, command: string) =>
    shell(appOf(set), `setsid sh -c '${command}' >/dev/null 2>&1 & sleep 0.2`);
  await inBackground(two, "sleep 600 | nc -l -p 90 > /received");
  const sent = "while sleep 0.1; do echo line || exit; done";
  await inBackground(one, `(${sent}) | nc ${two.address ?? ""} 90`);
  const countLines = async () => Number(await shell(appOf(two), "wc -l < /received"));
  const isFlowing = async () => {
    const before = await countLines();
    await pause(1_000);
    return (await countLines()) > before;
  };
  await waitUntil("the connection is open", isFlowing);
  const rule = { direction: "ingress", service: "two", peer: { service: "one" } };
  await addRule({ ...rule, name: "later" });
  await waitUntil("the rule is in force", async () => !(await canConnect(one, two)));
  expect(await isFlowing()).toBe(true);
  await deleteRule("later");
  await waitUntil("the rule is deleted", () => canConnect(one, two));
});

it("a set with two networks reaches each of them, on its host and on the other one", async () => {
  const subnets = [{ cidr: "10.70.0.0/24" }];
  await berth.request("POST", "/v1/networks", { name: "back", subnets });
  await cordon("second", "cordon");
  await createService("both", ["default", "back"]);
  const both = await readySet("both", "first");
  await cordon("second", "uncordon");
  await cordon("first", "cordon");
  await createService("behind", ["back"]);
  const behind = await readySet("behind", "second");
  await cordon("first", "uncordon");
  const [two, one] = [await readySet("two"), await readySet("one")];
  const [inDefault = "", inBack = ""] = await addressesOf(both);
  expect([inDefault.startsWith("10.64."), inBack.startsWith("10.70.")]).toEqual([true, true]);
  expect(both.address).toBe(inDefault);
  for (const set of [one, two]) expect(await fetchFrom(infraOf(set), inDefault)).toBe("both");
  expect(await fetchFrom(infraOf(behind), inBack)).toBe("both");
  expect(await fetchFrom(infraOf(both), behind.address ?? "")).toBe("behind");
});

it("a set that moves is reachable at its place", async () => {
  const { id } = await getHost("second");
  await berth.request("POST", `/v1/hosts/${id}/drain`);
  const two = await readySet("two", "first");
  await readySet("behind", "first");
  await expectConnected(await readySet("one"), two);
  await cordon("second", "uncordon");
  const first = await getHost("first");
  await berth.request("POST", `/v1/hosts/${first.id}/drain`);
  const moved = await Promise.all(
    ["one", "two", "both", "behind"].map((service) => readySet(service, "second")),
  );
  await cordon("first", "uncordon");
  await cordon("second", "cordon");
  await createService("last");
  const last = await readySet("last", "first");
  for (const set of moved.slice(0, 2)) await expectConnected(set, last);
  const networks = await machine("second").docker.listNetworks();
  expect(networks.filter(({ Name }) => Name.startsWith("berth-net_"))).toHaveLength(2);
});

it("sets resolve the services of both hosts where their host has a name server", async () => {
  const last = await readySet("last", "first");
  expect((await getHost("first")).capabilities?.features).toContain("names");
  expect((await getHost("second")).capabilities?.features).not.toContain("names");
  for (const service of ["one", "two"])
    expect(await fetchByName(last, `${service}.berth.internal`)).toBe(service);
  const one = await readySet("one", "second");
  const name = `${one.id.replace("_", "-")}.one.berth.internal`;
  expect(await fetchByName(last, name)).toBe("one");
});

it("sets reach a service at its address on both hosts, and only its endpoints", async () => {
  const clients = [await readySet("one", "second"), await readySet("last", "first")];
  // Each set answers with a text of its own.
  await createService("pair", undefined, "$(cat /proc/sys/kernel/random/uuid)");
  await readySet("pair", "first");
  await cordon("first", "cordon");
  await cordon("second", "uncordon");
  await berth.request("POST", "/v1/services/pair/scale", { replicas: 2 });
  const endpoints = async (): Promise<Endpoint[]> =>
    (await berth.request<EndpointList>("GET", "/v1/services/pair/endpoints")).endpoints;
  const both = await waitUntil("both sets are ready", async () => {
    const list = await endpoints();
    return list.length === 2 && list;
  });
  await cordon("first", "uncordon");
  await cordon("second", "cordon");
  expect(new Set(both.map(({ host }) => host.name))).toEqual(new Set(names));
  const address = await waitUntil("the service has an address", async () => {
    const { addresses } = await berth.request<Service>("GET", "/v1/services/pair");
    return addresses[0]?.addresses[0];
  });
  expect(both.map(({ interfaces }) => interfaces[0]?.addresses[0])).not.toContain(address);
  for (const client of clients) {
    const own = new Set<string>();
    await waitUntil("connections reach both sets", async () => {
      own.add(await fetchFrom(infraOf(client), address));
      return own.size === 2;
    });
  }
  const [stopped, left] = both;
  const leftText = await fetchFrom(
    infraOf(clients[0] as BerthSet),
    left?.interfaces[0]?.addresses[0] ?? "",
  );
  await berth.request("POST", `/v1/sets/${stopped?.setId}/stop`);
  await waitUntil("one endpoint is left", async () => (await endpoints()).length === 1);
  await pause(ENDPOINTS_EFFECTIVE_MS);
  for (const client of clients)
    for (let attempt = 0; attempt < 8; attempt++)
      expect(await tryFetch(infraOf(client), address)).toBe(leftText);
  await berth.request("DELETE", "/v1/services/pair");
  await waitUntil("the service is deleted", async () => {
    const { items } = await berth.request<{ items: Service[] }>("GET", "/v1/services");
    return items.every(({ name }) => name !== "pair");
  });
});

it("a gateway leads other machines to a set on the other host, by its rules", async () => {
  const client = await startClient();
  await cordon("first", "cordon");
  await cordon("second", "uncordon");
  const ports = [{ name: "http", port: 80 }];
  const gatewayPorts = [{ port: "http", gatewayGroup: "edge", gatewayPort: 8_080 }];
  await createService("published", undefined, "published", { ports, gatewayPorts });
  const { id } = await getHost("first");
  await berth.request("PATCH", `/v1/hosts/${id}`, { gatewayGroup: "edge" });
  await readySet("published", "second");
  await waitUntil("the gateway is ready", async () => {
    const path = "/v1/services/published/endpoints";
    const { gateways } = await berth.request<EndpointList>("GET", path);
    return gateways[0]?.reason === null && gateways[0].address === clientSideAddress;
  });
  const url = `http://${clientSideAddress}:8080`;
  await waitUntil("a client gets the page", async () => {
    return (await fetchAt(client, url)) === "published";
  });
  for (let attempt = 0; attempt < 8; attempt++)
    expect(await fetchAt(client, url)).toBe("published");
  const peer = { cidr: "203.0.113.9/32" };
  await addRule({ name: "no-client", direction: "ingress", service: "published", peer });
  await waitUntil("the rule is in force", async () => {
    return (await fetchAt(client, url)) === undefined;
  });
  await deleteRule("no-client");
  await waitUntil("the rule is deleted", async () => (await fetchAt(client, url)) === "published");
  await berth.request("PATCH", `/v1/hosts/${id}`, { gatewayGroup: null });
  await waitUntil("the port is closed", async () => (await fetchAt(client, url)) === undefined);
  await berth.request("DELETE", "/v1/services/published");
  await cordon("first", "uncordon");
  await cordon("second", "cordon");
});

it("a dead network driver is the reason of its host, whose sets stay connected", async () => {
  const [one, last] = [await readySet("one", "second"), await readySet("last", "first")];
  const hasNetworks = async () =>
    (await getHost("second")).capabilities?.features.includes("networks");
  await machine("second").endDriver("SIGKILL");
  await waitUntil("the host has a reason", async () => {
    const { reported } = await getHost("second");
    return reported?.reason?.code === "network-driver-failed" && !(await hasNetworks());
  });
  // Without the address, the other host would remove its flows to this one.
  expect((await getHost("second")).capabilities?.tunnelAddress).toBe(addressOf(1));
  await expectConnected(one, last);
  await machine("second").startDriver();
  await waitUntil("the host has networks again", hasNetworks);
  await waitUntil("it has no reason", async () => {
    return (await getHost("second")).reported?.reason === null;
  });
  await expectConnected(one, last);
});

it("a network driver that has lost its network state gets it from the agent", async () => {
  const [one, last] = [await readySet("one", "second"), await readySet("last", "first")];
  const host = machine("second");
  await host.endDriver("SIGKILL");
  await writeFile(path.join(host.folder, "network-state.json"), "{");
  await host.startDriver();
  await waitUntil("the driver is ready", async () => (await host.status()).isReady, { deadlineMs });
  await expectConnected(one, last);
  expect((await host.status()).networkStateVersion).toBeGreaterThan(0);
});

it("containers that Docker restarts while agents and API are dead reach each other by their rules", async () => {
  const [one, last] = [await readySet("one", "second"), await readySet("last", "first")];
  await addRule({ name: "no-ping", direction: "ingress", protocol: "icmp", peer: { any: true } });
  await waitUntil("the rule is in force", async () => !(await canPing(one, last)));
  await berth.end("SIGKILL");
  for (const agent of agents) await agent.end("SIGKILL");
  const before = [await addressesOf(one), await addressesOf(last)];
  for (const set of [one, last]) {
    const { docker } = machine(set.host?.name);
    await infraOf(set).restart({ t: 1 });
    await docker.getContainer(`berth-${set.id}-app`).restart({ t: 0 });
  }
  expect([await addressesOf(one), await addressesOf(last)]).toEqual(before);
  await expectConnected(one, last);
  expect(await fetchByName(last, "one.berth.internal")).toBe("one");
  // The rules are those of the last network state.
  expect([await canPing(one, last), await canPing(last, one)]).toEqual([false, false]);
});
