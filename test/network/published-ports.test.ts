import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { setCommandRunner } from "../../src/host-adapters/exec.ts";
import type { HostRule } from "../../src/contracts/network-driver/host-rule.ts";
import { assignConntrackZones } from "../../src/network-driver/flows/assign-conntrack-zones.ts";
import { uplinkAddress } from "../../src/network-driver/flows/compile-flows.ts";
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

/** Other machines reach sets of networks with equal addresses at ports of their host. */

const { signal } = new AbortController();
const red: TestNetwork = { networkId: "red", vni: 4097 };
const blue: TestNetwork = { networkId: "blue", vni: 4098 };
const silenceMs = 1_000;
const hostAddress = "203.0.113.1";
const otherHostAddress = "198.51.100.1";

let hosts: TestHosts;
let red1: TestSet;
let blue1: TestSet;
/** Machines beside the host: by its default route, and on another interface. */
let outside: FakeSet;
let beside: FakeSet;
const uplink = createTestUplink();

const onHost = (program: string, ...args: string[]) =>
  runInNamespace(hosts.first.namespace, program, ...args);

/** Applies the ports of all sets of the first host, as the driver does. */
async function publish(): Promise<void> {
  await hosts.apply();
  const zones = assignConntrackZones([red.vni, blue.vni]);
  const ports = hosts.sets.flatMap(({ network, publishedPorts }) =>
    publishedPorts.map(({ protocol, hostPort }) => {
      const address = uplinkAddress(uplinkFirstAddress, zones.get(network.vni) ?? 0);
      return { protocol, hostPort, address };
    }),
  );
  await uplink.publish(ports, signal);
}

beforeAll(async () => {
  hosts = await TestHosts.start();
  red1 = await hosts.addSet(hosts.first, red, 1);
  blue1 = await hosts.addSet(hosts.first, blue, 1);
  await hosts.addSet(hosts.second, red, 2);
  const { namespace } = hosts.first;
  const wan = { name: "wan", address: "203.0.113.9", hostSide: hostAddress };
  const other = { name: "other", address: "198.51.100.9", hostSide: otherHostAddress };
  outside = await addNeighbor(namespace, wan);
  beside = await addNeighbor(namespace, other);
  await onHost("ip", "route", "add", "default", "via", "203.0.113.9");
  await onHost("iptables", "-P", "FORWARD", "DROP");
  await addUplink(hosts.first, [red1, blue1]);
  setCommandRunner(createNamespaceRunner(hosts.first.namespace));
  await uplink.ensure(uplinkEnd, signal);
});
beforeEach(async () => {
  red1.publishedPorts = [
    { protocol: "tcp", hostPort: 20_001, port: 7_000 },
    { protocol: "udp", hostPort: 20_002, port: 7_000 },
  ];
  blue1.publishedPorts = [{ protocol: "tcp", hostPort: 20_002, port: 7_000 }];
  await publish();
});
afterAll(async () => {
  setCommandRunner(undefined);
  for (const neighbor of [outside, beside]) await neighbor.close();
  await hosts.close();
});

const silence = { timeoutMs: silenceMs };

describe("other machines", () => {
  it("reach published ports by TCP and UDP, in networks with equal addresses", async () => {
    for (const [machine, address] of [
      [outside, hostAddress],
      [beside, otherHostAddress],
    ] as const) {
      const probe = (protocol: "tcp" | "udp", port: number) =>
        machine.probe(protocol, address, { port });
      expect(await probe("tcp", 20_001)).toBe("red-1:hello");
      expect(await probe("udp", 20_002)).toBe("red-1:hello");
      expect(await probe("tcp", 20_002)).toBe("blue-1:hello");
    }
  });

  it("have their own address at the set, and exchange more than a packet holds", async () => {
    red1.received.length = 0;
    await outside.probe("udp", hostAddress, { port: 20_002, text: "who am I" });
    const findSource = () => {
      const frame = red1.received.find((each) => each.includes("who am I"));
      return [...(frame?.subarray(26, 30) ?? [])].join(".");
    };
    await expect.poll(findSource).toBe("203.0.113.9");
    const text = "0123456789".repeat(30_000);
    expect(await outside.probe("tcp", hostAddress, { port: 20_001, text })).toBe(`red-1:${text}`);
  });

  it("reach no other port, protocol or address of a set", async () => {
    for (const options of [{ port: 20_003 }, { port: 7_000 }])
      expect(await outside.probe("tcp", hostAddress, { ...silence, ...options })).toMatch(/^error/);
    expect(await outside.probe("udp", hostAddress, { ...silence, port: 20_001 })).toMatch(/^error/);
    await outside.run("ip", "route", "replace", "198.19.0.0/16", "via", hostAddress);
    const direct = { ...silence, port: 20_001 };
    const zone = assignConntrackZones([red.vni, blue.vni]).get(red.vni) ?? 0;
    const address = uplinkAddress(uplinkFirstAddress, zone);
    expect(await outside.probe("tcp", address, direct)).toMatch(/^error/);
  });
});

it("rules of the network see the address of the client, and the port of the set", async () => {
  const denied: Partial<HostRule> = {
    direction: "ingress",
    action: "deny",
    protocol: "tcp",
    ports: [{ first: 7_000, last: 7_000 }],
    peer: { kind: "cidr", cidr: "203.0.113.0/24" },
  };
  hosts.rules.set(red.vni, [sampleRule(0, denied)]);
  await publish();
  const port = 20_001;
  expect(await outside.probe("tcp", hostAddress, { ...silence, port })).toMatch(/^error/);
  expect(await beside.probe("tcp", otherHostAddress, { port })).toBe("red-1:hello");
  // A client outside is not in the network.
  const inNetwork: Partial<HostRule> = { direction: "ingress", action: "deny" };
  hosts.rules.set(red.vni, [sampleRule(0, { ...inNetwork, peer: { kind: "network" } })]);
  await publish();
  expect(await outside.probe("tcp", hostAddress, { port })).toBe("red-1:hello");
  hosts.rules.set(red.vni, []);
  await publish();
});

it("packets before the first answer reach the set, too", async () => {
  // No program of the set answers at this port.
  red1.publishedPorts = [{ protocol: "udp", hostPort: 20_003, port: 7_001 }];
  await publish();
  red1.received.length = 0;
  const send = `import socket, time
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for number in range(3):
    client.sendto(b"unanswered", ("${hostAddress}", 20003))
    time.sleep(0.1)`;
  await outside.run("/usr/bin/python3", "-c", send);
  const countFrames = () => red1.received.filter((frame) => frame.includes("unanswered")).length;
  await expect.poll(countFrames).toBe(3);
});

it("open connections continue while ports change, and a port can move to another set", async () => {
  const send = await outside.connect(hostAddress, 20_001);
  expect(await send("before")).toBe("red-1:before");
  blue1.publishedPorts = [];
  await publish();
  await uplink.ensure(uplinkEnd, signal);
  expect(await send("after")).toBe("red-1:after");
  const port = 20_002;
  expect(await outside.probe("tcp", hostAddress, { ...silence, port })).toMatch(/^error/);
  red1.publishedPorts = [{ protocol: "tcp", hostPort: port, port: 7_000 }];
  await publish();
  expect(await outside.probe("tcp", hostAddress, { port })).toBe("red-1:hello");
});

it("sets reach no published port at an address of their host", async () => {
  for (const address of [hostAddress, otherHostAddress])
    expect(await blue1.probe("tcp", address, { ...silence, port: 20_001 })).toMatch(/^error/);
});

it("the port of the tunnel is never published", async () => {
  red1.publishedPorts = [
    { protocol: "udp", hostPort: 4_789, port: 7_000 },
    { protocol: "tcp", hostPort: 4_789, port: 7_000 },
  ];
  await publish();
  const probe = (protocol: "tcp" | "udp") =>
    outside.probe(protocol, hostAddress, { ...silence, port: 4_789 });
  expect(await probe("tcp")).toBe("red-1:hello");
  expect(await probe("udp")).toMatch(/^error/);
  await expect(uplink.checkUnused([{ protocol: "udp", hostPort: 4_789 }])).rejects.toThrow(
    "Host port 4789/udp: address already in use",
  );
});

it("the published ports of an earlier process stay until the first call", async () => {
  const restarted = createTestUplink();
  await restarted.ensure(uplinkEnd, signal);
  expect(await outside.probe("tcp", hostAddress, { port: 20_001 })).toBe("red-1:hello");
  // Another program has removed all rules.
  await onHost("iptables", "-t", "nat", "-F");
  await uplink.ensure(uplinkEnd, signal);
  expect(await outside.probe("tcp", hostAddress, { port: 20_001 })).toBe("red-1:hello");
});
