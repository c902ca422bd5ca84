import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { HostRule } from "../../src/contracts/network-driver/host-rule.ts";
import { setCommandRunner } from "../../src/host-adapters/exec.ts";
import { assignConntrackZones } from "../../src/network-driver/flows/assign-conntrack-zones.ts";
import { uplinkAddress } from "../../src/network-driver/flows/compile-flows.ts";
import { gatewayZoneKey } from "../../src/network-driver/flows/compile-gateway.ts";
import { createNamespaceRunner } from "../support/network/namespace-runner.ts";
import { sampleRule } from "../support/network/rule-samples.ts";
import type { FakeSet } from "../support/ovs/fake-set.ts";
import {
  addNeighbor,
  addUplink,
  createTestUplink,
  runInNamespace,
  uplinkEnd,
} from "../support/ovs/host-routing.ts";
import {
  TestHosts,
  type TestNetwork,
  type TestSet,
  uplinkFirstAddress,
} from "../support/ovs/test-hosts.ts";

/**
 * The first host is the gateway of two networks with equal addresses. It has no set of red. The
 * sets of the services are on the second host, and blue has one on the gateway, too.
 */

const { signal } = new AbortController();
const red: TestNetwork = { networkId: "red", vni: 4097 };
const blue: TestNetwork = { networkId: "blue", vni: 4098 };
/** The address of the gateway in both networks. */
const address = "10.64.1.9";
const hostAddress = "203.0.113.1";
const clientAddress = "203.0.113.9";
const otherClientAddress = "203.0.113.10";
const silence = { timeoutMs: 1_000 };
/** That of `startLoad`. */
const redPort = 7_000;
const bluePort = 20_002;

let hosts: TestHosts;
let web2: TestSet;
let web3: TestSet;
let other4: TestSet;
let blue1: TestSet;
let blue2: TestSet;
/** A machine beside the gateway. */
let client: FakeSet;
const uplink = createTestUplink();

beforeAll(async () => {
  hosts = await TestHosts.start();
  web2 = await hosts.addSet(hosts.second, red, 2);
  web3 = await hosts.addSet(hosts.second, red, 3);
  other4 = await hosts.addSet(hosts.second, red, 4);
  blue1 = await hosts.addSet(hosts.first, blue, 2);
  blue2 = await hosts.addSet(hosts.second, blue, 3);
  const { namespace } = hosts.first;
  const wan = { name: "wan", address: clientAddress, hostSide: hostAddress };
  client = await addNeighbor(namespace, wan);
  await client.run("ip", "address", "add", `${otherClientAddress}/24`, "dev", "eth0");
  await runInNamespace(namespace, "ip", "route", "add", "default", "via", clientAddress);
  await runInNamespace(namespace, "iptables", "-P", "FORWARD", "DROP");
  await addUplink(hosts.first, hosts.sets);
  setCommandRunner(createNamespaceRunner(namespace));
  await uplink.ensure(uplinkEnd, signal);
});
beforeEach(async () => {
  hosts.rules.clear();
  await serve([web2, web3]);
});
afterAll(async () => {
  setCommandRunner(undefined);
  await client.close();
  await hosts.close();
});

/** Publishes both services at the gateway. That of red has these endpoints. */
async function serve(
  endpoints: readonly TestSet[],
  { members = [web2, web3] }: { members?: readonly TestSet[] } = {},
): Promise<void> {
  const toService = (serviceId: string, sets: readonly TestSet[]) => ({
    serviceId,
    addresses: [],
    members: sets.map((set) => ({
      addresses: [set.ipv4, set.ipv6],
      isEndpoint: endpoints.includes(set) || set.network === blue,
    })),
  });
  hosts.services.set(red.vni, [toService("svc_red", members), toService("svc_other", [other4])]);
  hosts.services.set(blue.vni, [toService("svc_blue", [blue1, blue2])]);
  for (const [{ vni }, serviceId, hostPort] of [
    [red, "svc_red", redPort],
    [blue, "svc_blue", bluePort],
  ] as const) {
    const ports = (["tcp", "udp"] as const).map((protocol) => ({
      serviceId,
      protocol,
      hostPort,
      port: 7_000,
    }));
    hosts.gateways.set(vni, [{ host: hosts.first, address, ports }]);
  }
  await hosts.apply();
  const vnis = [red.vni, blue.vni];
  const zones = assignConntrackZones([...vnis, ...vnis.map(gatewayZoneKey)]);
  const hostPorts = [...hosts.gateways].flatMap(([vni, gateways]) =>
    gateways.flatMap(({ ports }) =>
      ports.map(({ protocol, hostPort }) => ({
        protocol,
        hostPort,
        address: uplinkAddress(uplinkFirstAddress, zones.get(vni) ?? 0),
      })),
    ),
  );
  await uplink.publish(hostPorts, signal);
}

/** Opens connections to a port of the gateway and returns the sets that answered. */
async function answerers(
  port: number,
  { count = 30, protocol = "tcp" }: { count?: number; protocol?: "tcp" | "udp" } = {},
): Promise<string[]> {
  const names = new Set<string>();
  for (let index = 0; index < count; index += 1)
    names.add(await client.probe(protocol, hostAddress, { port }));
  return [...names].map((answer) => answer.replace(":hello", "")).toSorted();
}

describe("a gateway", () => {
  it("leads connections of other machines to sets on another host", async () => {
    for (const protocol of ["tcp", "udp"] as const)
      expect([protocol, await answerers(redPort, { protocol })]).toEqual([
        protocol,
        [web2.name, web3.name],
      ]);
  });

  it("also leads them to its own sets, in a network with equal addresses", async () => {
    for (const protocol of ["tcp", "udp"] as const)
      expect(await answerers(bluePort, { protocol })).toEqual([blue1.name, blue2.name]);
  });

  it("carries more than a packet holds", async () => {
    const text = "0123456789".repeat(30_000);
    await serve([web2]);
    expect(await client.probe("tcp", hostAddress, { port: redPort, text })).toBe(
      `${web2.name}:${text}`,
    );
  });

  it("has its own address at sets of other hosts", async () => {
    await serve([web2]);
    web2.received.length = 0;
    await client.probe("udp", hostAddress, { port: redPort, text: "who am I" });
    const frame = web2.received.find((each) => each.includes("who am I"));
    expect([...(frame?.subarray(26, 30) ?? [])].join(".")).toBe(address);
  });

  it("separates clients that use the same port", async () => {
    await serve([web2]);
    const script = `import socket, struct
def ask(source):
    s = socket.socket()
    s.bind((source, 33333))
    s.settimeout(5)
    s.connect(("${hostAddress}", ${redPort}))
    return s
first, second = ask("${clientAddress}"), ask("${otherClientAddress}")
for s, text in ((first, b"one"), (second, b"two"), (first, b"three")):
    s.sendall(struct.pack("!I", len(text)) + text)
    assert s.recv(100).endswith(text), text`;
    await expect(client.run("/usr/bin/python3", "-c", script)).resolves.toBeUndefined();
  });
});

it("a client learns by ICMP that no program of the set listens at the port", async () => {
  await serve([web2]);
  const ports = [
    { serviceId: "svc_red", protocol: "udp" as const, hostPort: redPort, port: 7_001 },
  ];
  hosts.gateways.set(red.vni, [{ host: hosts.first, address, ports }]);
  await hosts.apply();
  const ask = `import socket
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.settimeout(2)
client.connect(("${hostAddress}", ${redPort}))
for attempt in range(3):
    try:
        client.send(b"anyone")
        client.recv(10)
    except ConnectionRefusedError:
        print("refused")
        break
    except TimeoutError:
        pass`;
  const { namespace } = hosts.first;
  const { stdout } = await runInNamespace(`${namespace}-wan`, "/usr/bin/python3", "-c", ask);
  expect(stdout.trim()).toBe("refused");
});

describe("the address of a gateway", () => {
  it("accepts no connection of a set", async () => {
    for (const protocol of ["tcp", "udp", "icmp"] as const)
      expect(await web2.probe(protocol, address, silence)).toMatch(/^error/);
    expect(await web2.probe("tcp", address, { ...silence, port: redPort })).toMatch(/^error/);
  });
});

describe("rules of the network", () => {
  const deny: Partial<HostRule> = { direction: "ingress", action: "deny" };
  const port = redPort;

  it("see the address of the client, and the port and service of the set", async () => {
    hosts.rules.set(red.vni, [
      sampleRule(0, {
        ...deny,
        serviceId: "svc_red",
        protocol: "tcp",
        ports: [{ first: 7_000, last: 7_000 }],
        peer: { kind: "cidr", cidr: `${clientAddress}/32` },
      }),
    ]);
    await serve([web2]);
    expect(await client.probe("tcp", hostAddress, { ...silence, port })).toMatch(/^error/);
    expect(await client.probe("udp", hostAddress, { port })).toBe(`${web2.name}:hello`);
    expect(await answerers(bluePort)).toEqual([blue1.name, blue2.name]);
  });

  it("permit clients by their addresses, where sets of no other service may connect", async () => {
    hosts.rules.set(red.vni, [
      sampleRule(0, { ...deny, serviceId: "svc_red", peer: { kind: "any" }, priority: 1 }),
      sampleRule(1, {
        ...deny,
        action: "allow",
        serviceId: "svc_red",
        peer: { kind: "cidr", cidr: "203.0.113.0/24" },
        priority: 2,
      }),
    ]);
    await serve([web2]);
    expect(await client.probe("tcp", hostAddress, { port })).toBe(`${web2.name}:hello`);
    expect(await other4.probe("tcp", web2.ipv4, silence)).toMatch(/^error/);
  });

  it("never take a client for a member of the network", async () => {
    hosts.rules.set(red.vni, [
      sampleRule(0, { ...deny, peer: { kind: "any" }, priority: 1 }),
      sampleRule(1, { ...deny, action: "allow", peer: { kind: "network" }, priority: 2 }),
    ]);
    await serve([web2]);
    expect(await client.probe("tcp", hostAddress, { ...silence, port })).toMatch(/^error/);
    expect(await other4.probe("tcp", web2.ipv4)).toBe(`${web2.name}:hello`);
  });

  it("do not close the gateway by naming another service as peer", async () => {
    hosts.rules.set(red.vni, [
      sampleRule(0, {
        ...deny,
        serviceId: "svc_red",
        peer: { kind: "service", serviceId: "svc_other" },
      }),
    ]);
    await serve([web2]);
    expect(await client.probe("tcp", hostAddress, { port })).toBe(`${web2.name}:hello`);
    expect(await other4.probe("tcp", web2.ipv4, silence)).toMatch(/^error/);
  });
});

describe("an open connection", () => {
  it("stays on its set when the set leaves the endpoints, and new ones avoid the set", async () => {
    await serve([web2]);
    const send = await client.connect(hostAddress, redPort);
    expect(await send("before")).toBe(`${web2.name}:before`);
    await serve([web3]);
    expect(await send("after")).toBe(`${web2.name}:after`);
    expect(await answerers(redPort, { count: 10 })).toEqual([web3.name]);
  });

  it("never fails to open while the endpoints change", async () => {
    for (const protocol of ["tcp", "udp"] as const) {
      const stopLoad = await client.startLoad(protocol, hostAddress);
      for (let round = 0; round < 10; round += 1) await serve(round % 2 === 0 ? [web2] : [web3]);
      await serve([web2, web3]);
      const answers = await stopLoad();
      expect(Object.keys(answers).toSorted()).toEqual([web2.name, web3.name]);
      console.log(`${protocol} through a gateway: ${JSON.stringify(answers)}`);
    }
  });

  it("does not begin without an endpoint", async () => {
    await serve([]);
    const port = redPort;
    expect(await client.probe("tcp", hostAddress, { ...silence, port })).toMatch(/^error/);
  });
});

it("a flood of new connections to one port occupies the switch at a limited rate", async () => {
  await serve([web2]);
  const limited = createTestUplink({ openingsPerSecondMax: 2 });
  await limited.ensure(uplinkEnd, signal);
  web2.received.length = 0;
  const send = `import socket
for number in range(200):
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.sendto(b"flood", ("${hostAddress}", ${redPort}))`;
  await client.run("/usr/bin/python3", "-c", send);
  const count = () => web2.received.filter((frame) => frame.includes("flood")).length;
  await expect.poll(count).toBeGreaterThan(0);
  expect(count()).toBeLessThan(100);
  await uplink.ensure(uplinkEnd, signal);
  expect(await answerers(redPort, { count: 5 })).toEqual([web2.name]);
});

it("packets before the first answer reach one set", async () => {
  await serve([web2, web3]);
  hosts.gateways.set(red.vni, [
    {
      host: hosts.first,
      address,
      // No program of the set answers at this port.
      ports: [{ serviceId: "svc_red", protocol: "udp", hostPort: redPort, port: 7_001 }],
    },
  ]);
  await hosts.apply();
  for (const set of [web2, web3]) set.received.length = 0;
  const send = `import socket, time
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for number in range(3):
    client.sendto(b"unanswered", ("${hostAddress}", ${redPort}))
    time.sleep(0.1)`;
  await client.run("/usr/bin/python3", "-c", send);
  const counts = () =>
    [web2, web3]
      .map(({ received }) => received.filter((frame) => frame.includes("unanswered")).length)
      .toSorted((a, b) => a - b);
  await expect.poll(counts).toEqual([0, 3]);
});
