import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createFilterWatch } from "../../src/host-adapters/ovs/filter-watch.ts";
import { setCommandRunner } from "../../src/host-adapters/exec.ts";
import { nameServerAddress } from "../../src/network-driver/flows/compile-flows.ts";
import { GATEWAY_MAC } from "../../src/network-driver/flows/flow.ts";
import { startDnsClient } from "../support/network/dns-client.ts";
import { startResolver } from "../support/network/unbound-unit.ts";
import { createNamespaceRunner } from "../support/network/namespace-runner.ts";
import { sampleRule } from "../support/network/rule-samples.ts";
import type { FakeSet } from "../support/ovs/fake-set.ts";
import { udpFrame } from "../support/ovs/frames.ts";
import {
  addNeighbor,
  addUplink,
  createTestUplink,
  runInNamespace,
  uplinkEnd,
} from "../support/ovs/host-routing.ts";
import {
  gateway,
  TestHosts,
  type TestNetwork,
  type TestSet,
  uplinkFirstAddress,
} from "../support/ovs/test-hosts.ts";

const { signal } = new AbortController();
const red: TestNetwork = { networkId: "red", vni: 4097 };
const blue: TestNetwork = { networkId: "blue", vni: 4098 };
const protocols = ["tcp", "udp", "icmp"] as const;
const silenceMs = 1_000;
const outsideAddress = "203.0.113.9";
const hostAddress = "203.0.113.1";
/** The address of a service in the network red. */
const serviceAddress = "10.64.1.1";
/** A container on Docker's bridge. */
const bridgedAddress = "172.17.0.9";
const nameServer = nameServerAddress(uplinkFirstAddress);

/** A host with sets of two networks with equal addresses, and with interfaces to others. */
let hosts: TestHosts;
let red1: TestSet;
let red3: TestSet;
let blue1: TestSet;
let outside: FakeSet;
let bridged: FakeSet;
const uplink = createTestUplink();

const onHost = (program: string, ...args: string[]) =>
  runInNamespace(hosts.first.namespace, program, ...args);

beforeAll(async () => {
  hosts = await TestHosts.start();
  red1 = await hosts.addSet(hosts.first, red, 1);
  red3 = await hosts.addSet(hosts.first, red, 3);
  blue1 = await hosts.addSet(hosts.first, blue, 1);
  const red2 = await hosts.addSet(hosts.second, red, 2);
  const members = [red2, red3].map(({ ipv4 }) => ({ addresses: [ipv4], isEndpoint: true }));
  const service = { serviceId: "svc_red", addresses: [serviceAddress], members };
  hosts.services.set(red.vni, [service]);
  const { namespace } = hosts.first;
  const wan = { name: "wan", address: outsideAddress, hostSide: hostAddress };
  const docker0 = { name: "docker0", address: bridgedAddress, hostSide: "172.17.0.1" };
  outside = await addNeighbor(namespace, wan);
  bridged = await addNeighbor(namespace, docker0);
  await onHost("ip", "route", "add", "default", "via", outsideAddress);
  await addUplink(hosts.first, [red1, red3, blue1]);
  setCommandRunner(createNamespaceRunner(hosts.first.namespace));
  await uplink.ensure(uplinkEnd, signal);
  await hosts.apply();
});
afterAll(async () => {
  setCommandRunner(undefined);
  for (const neighbor of [outside, bridged]) await neighbor.close();
  await hosts.close();
});

describe("sets", () => {
  it("reach addresses outside by TCP, UDP and ICMP, in networks with equal addresses", async () => {
    for (const set of [red1, red3, blue1])
      for (const protocol of protocols)
        expect([set.name, protocol, await set.probe(protocol, outsideAddress)]).toEqual([
          set.name,
          protocol,
          protocol === "icmp" ? "hello" : "wan:hello",
        ]);
  });

  it("reach addresses outside and a service address from the same port", async () => {
    for (const protocol of ["tcp", "udp"] as const)
      for (let sourcePort = 9_000; sourcePort < 9_004; sourcePort += 1) {
        const probe = (address: string) => red1.probe(protocol, address, { sourcePort });
        expect(await probe(outsideAddress)).toBe("wan:hello");
        expect(await probe(serviceAddress)).toMatch(/^red-[23]:hello$/);
        expect(await probe(red3.ipv4)).toBe("red-3:hello");
      }
  });

  it("have the address of the host outside", async () => {
    outside.received.length = 0;
    await red1.probe("udp", outsideAddress, { text: "who am I" });
    const findSource = () => {
      const frame = outside.received.find((each) => each.includes("who am I"));
      return [...(frame?.subarray(26, 30) ?? [])].join(".");
    };
    await expect.poll(findSource).toBe(hostAddress);
  });

  it("reach only the addresses and ports outside that the rules of their network permit", async () => {
    const probe = (set: TestSet, protocol: "tcp" | "udp" | "icmp") =>
      set.probe(protocol, outsideAddress, { timeoutMs: 1_000 });
    const denyAll = sampleRule(1, { action: "deny", priority: 0 });
    const ofNetwork = sampleRule(2, { peer: { kind: "network" } });
    const outsideSubnet = { kind: "cidr", cidr: `${outsideAddress}/32` } as const;
    const ports = [{ first: 7_000, last: 7_000 }];
    const toOutside = sampleRule(3, { protocol: "tcp", ports, peer: outsideSubnet });
    try {
      hosts.rules.set(red.vni, [denyAll, ofNetwork]);
      await hosts.apply();
      for (const protocol of protocols) expect(await probe(red1, protocol)).toMatch(/^error: /);
      expect(await red1.probe("tcp", red3.ipv4)).toBe("red-3:hello");
      expect(await probe(blue1, "tcp")).toBe("wan:hello");
      hosts.rules.set(red.vni, [denyAll, ofNetwork, toOutside]);
      await hosts.apply();
      expect(await red1.probe("tcp", outsideAddress)).toBe("wan:hello");
      expect(await probe(red1, "udp")).toMatch(/^error: /);
      hosts.rules.set(red.vni, [sampleRule(4, { action: "deny", peer: outsideSubnet })]);
      await hosts.apply();
      for (const protocol of protocols) expect(await probe(red1, protocol)).toMatch(/^error: /);
    } finally {
      hosts.rules.delete(red.vni);
      await hosts.apply();
    }
  });

  it("exchange more than a packet holds, at the same time", async () => {
    const text = "0123456789".repeat(30_000);
    const answers = [red1, blue1, red3].map((set) => set.probe("tcp", outsideAddress, { text }));
    expect(await Promise.all(answers)).toEqual([`wan:${text}`, `wan:${text}`, `wan:${text}`]);
  });

  it("keep open connections while flows and rules are applied again", async () => {
    const send = await red1.connect(outsideAddress);
    expect(await send("before")).toBe("wan:before");
    await uplink.ensure(uplinkEnd, signal);
    await hosts.apply();
    expect(await send("after")).toBe("wan:after");
  });
});

describe("sets do not reach", () => {
  const expectSilence = async (address: string) => {
    const probes = [red1, blue1].flatMap((set) =>
      protocols.map((protocol) => set.probe(protocol, address, { timeoutMs: silenceMs })),
    );
    for (const answer of await Promise.all(probes)) expect(answer).toMatch(/^error: /);
  };

  it("the host itself, by any of its addresses", async () => {
    for (const address of [hostAddress, "172.17.0.1", "172.31.0.1", nameServer])
      await expectSilence(address);
  });

  it("containers on Docker's bridge, even if Docker permits their published ports", async () => {
    await expectSilence(bridgedAddress);
    // As Docker does for `--publish 80:7000`, in front of all other rules.
    const toContainer = ["-p", "tcp", "-d", bridgedAddress, "--dport", "7000", "-j", "ACCEPT"];
    await onHost("iptables", "-I", "FORWARD", ...toContainer);
    const published = ["-p", "tcp", "-d", hostAddress, "--dport", "80", "-j", "DNAT"];
    const translate = [...published, "--to-destination", `${bridgedAddress}:7000`];
    await onHost("iptables", "-t", "nat", "-I", "PREROUTING", ...translate);
    await expectSilence(bridgedAddress);
    await onHost("iptables", "-D", "FORWARD", ...toContainer);
    await onHost("iptables", "-t", "nat", "-D", "PREROUTING", ...translate);
  });

  it("other networks of the host, which a default route with a higher metric leads to", async () => {
    await onHost("ip", "route", "add", "default", "via", bridgedAddress, "metric", "500");
    await uplink.ensure(uplinkEnd, signal);
    await expectSilence(bridgedAddress);
    await onHost("ip", "route", "delete", "default", "via", bridgedAddress);
  });

  it("link-local addresses, where clouds serve the credentials of hosts", async () => {
    await onHost("ip", "address", "add", "169.254.169.1/24", "dev", "wan");
    await outside.run("ip", "address", "add", "169.254.169.254/24", "dev", "eth0");
    outside.received.length = 0;
    await expectSilence("169.254.169.254");
    expect(outside.received.filter((frame) => frame.includes("hello"))).toEqual([]);
  });

  it("another network through its address of the uplink", () => expectSilence("198.19.16.3"));
});

describe("the name server of the host", () => {
  it("gets queries of sets with the address of their network, and none of other machines", async () => {
    const inHost = hosts.first.namespace;
    const resolver = await startResolver(inHost, nameServer, ["web.test. 60 IN A 10.64.9.9"]);
    const clients = [`${inHost}-n4097i1`, `${inHost}-n4098i1`, `${inHost}-wan`].map((name) =>
      startDnsClient(["ip", "netns", "exec", name]),
    );
    const [fromRed, fromBlue, fromOutside] = clients;
    for (const tcp of [false, true]) {
      for (const client of [fromRed, fromBlue])
        expect(await client?.resolve({ name: "web.test", server: gateway, tcp })).toEqual([
          "10.64.9.9",
        ]);
      await outside.run("ip", "route", "replace", `${nameServer}/32`, "dev", "eth0");
      expect(await fromOutside?.resolve({ name: "web.test", server: nameServer, tcp })).toBe(
        "TIMEOUT",
      );
    }
    // Even if the host denies all other packets to itself.
    await onHost("iptables", "-A", "INPUT", "-j", "DROP");
    expect(await fromRed?.resolve({ name: "web.test", server: gateway })).toEqual(["10.64.9.9"]);
    await onHost("iptables", "-D", "INPUT", "-j", "DROP");
    for (const client of clients) client.close();
    await resolver.close();
  });
});

describe("DNS queries", () => {
  /** Sends queries without waiting for answers, from one port each or from one port for all. */
  const flood = async (set: TestSet, count: number, { ports }: { ports: "one" | "many" }) => {
    const open = "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)";
    const script = [
      "import socket, sys",
      open,
      "for i in range(int(sys.argv[2])):",
      ports === "many" ? `  ${open}` : "  pass",
      '  s.sendto(b"\\0" * 20, (sys.argv[1], 53))',
    ].join("\n");
    await set.run("python3", "-c", script, gateway, String(count));
  };

  it("occupy no tracked connection of the host", async () => {
    await uplink.ensure(uplinkEnd, signal);
    const resolver = await startResolver(hosts.first.namespace, nameServer, []);
    // The kernel's datapath has its connections in the same table, in zones of their own.
    const countTracked = async () => {
      const { stdout } = await onHost("cat", "/proc/net/nf_conntrack");
      return stdout.split("\n").filter((line) => line !== "" && !line.includes(" zone")).length;
    };
    const before = await countTracked();
    await flood(red1, 200, { ports: "many" });
    expect((await countTracked()) - before).toBeLessThan(20);
    await resolver.close();
  });

  it("beyond the share of a network are dropped, and those of others answered", async () => {
    await uplink.ensure(uplinkEnd, signal);
    const inHost = hosts.first.namespace;
    const resolver = await startResolver(inHost, nameServer, ["web.test. 60 IN A 10.64.9.9"]);
    const client = startDnsClient(["ip", "netns", "exec", `${inHost}-n4098i1`]);
    await flood(red1, 40_000, { ports: "one" });
    expect(await client.resolve({ name: "web.test", server: gateway })).toEqual(["10.64.9.9"]);
    const listed = await onHost("iptables", "-t", "mangle", "-vnxL", "BERTH-IN-berth0");
    const dropped = /^ *(\d+) .*DROP +17 .*limit: above 2000\/sec/m.exec(listed.stdout)?.[1];
    expect([Number(dropped) > 0, listed.stdout]).toEqual([true, expect.anything()]);
    client.close();
    await resolver.close();
  });
});

describe("nobody outside", () => {
  it("opens a connection to a set", async () => {
    for (const [name, from] of [
      ["wan", outside],
      ["docker0", bridged],
    ] as const) {
      await from.run("ip", "route", "add", "198.19.0.0/16", "dev", "eth0");
      await from.run("ip", "route", "add", "10.64.0.0/16", "dev", "eth0");
      for (const address of ["198.19.16.2", red1.ipv4])
        expect([name, await from.probe("tcp", address, { timeoutMs: silenceMs })]).toEqual([
          name,
          expect.stringMatching(/^error: /),
        ]);
    }
    red1.received.length = 0;
    // As if the host forwarded it: table 0 has a flow for this address.
    const { stdout } = await onHost("sh", "-c", "busybox ping -c 1 -W 1 198.19.16.2 || true");
    expect(stdout).toContain("100% packet loss");
    expect(red1.received).toEqual([]);
  });
});

it("a packet from another host does not leave through the uplink", async () => {
  const set = hosts.sets.find(({ host }) => host === hosts.second);
  outside.received.length = 0;
  const text = "from another host";
  await set?.sendFrame(
    udpFrame({
      from: set.mac,
      to: GATEWAY_MAC,
      source: set.ipv4,
      destination: outsideAddress,
      text,
    }),
  );
  await red1.probe("udp", outsideAddress);
  expect(outside.received.some((frame) => frame.includes(text))).toBe(false);
});

it("operators deny more in the chain DOCKER-USER, even if it exists later", async () => {
  await onHost("iptables", "-N", "DOCKER-USER");
  await onHost("iptables", "-A", "DOCKER-USER", "-d", outsideAddress, "-j", "DROP");
  await onHost("iptables", "-I", "FORWARD", "-j", "DOCKER-USER");
  const probe = () => red1.probe("udp", outsideAddress, { timeoutMs: silenceMs });
  expect(await probe()).toMatch(/^error: /);
  // As a reload of another program's packet filter does.
  await onHost("iptables", "-F", "FORWARD");
  await onHost("iptables", "-A", "FORWARD", "-j", "DOCKER-USER");
  await onHost("iptables", "-A", "FORWARD", "-j", "REJECT");
  await uplink.ensure(uplinkEnd, signal);
  await uplink.ensure(uplinkEnd, signal);
  const { stdout } = await onHost("iptables", "-S", "FORWARD");
  expect(stdout.match(/DOCKER-USER|BERTH-FWD-berth0|REJECT/g)).toEqual([
    "DOCKER-USER",
    "BERTH-FWD-berth0",
    "BERTH-FWD-berth0",
    "REJECT",
  ]);
  expect(await probe()).toMatch(/^error: /);
  await onHost("iptables", "-F", "DOCKER-USER");
  expect(await probe()).toBe("wan:hello");
});

it("no packet leaves without a translation, not even in a connection inside of the network", async () => {
  outside.received.length = 0;
  const text = "untranslated";
  // The first frame opens a connection in the bridge. The next ones belong to it.
  for (const to of [red3.mac, GATEWAY_MAC, GATEWAY_MAC, GATEWAY_MAC])
    await red1.sendFrame(
      udpFrame({ from: red1.mac, to, source: red1.ipv4, destination: red3.ipv4, text }),
    );
  await red1.probe("udp", outsideAddress);
  expect(red3.received.some((frame) => frame.includes(text))).toBe(true);
  expect(outside.received.some((frame) => frame.includes(text))).toBe(false);
});

it("a network has at most its share of the host's connections", async () => {
  const { stdout } = await onHost("iptables", "-t", "mangle", "-S", "BERTH-FWD-berth0");
  const maximum = Number(await readFile("/proc/sys/net/netfilter/nf_conntrack_max", "utf8"));
  expect(stdout).toContain(`--connlimit-above ${Math.floor(maximum / 16)} `);
  // With a limit of two, the third connection gets no answer.
  const rule = [
    "-i",
    uplinkEnd.interfaceName,
    "-m",
    "conntrack",
    "--ctstate",
    "NEW",
    "-m",
    "connlimit",
  ];
  const limit = ["--connlimit-above", "2", "--connlimit-mask", "32", "--connlimit-saddr"];
  const chain = ["-t", "mangle", "-I", "BERTH-FWD-berth0"];
  await onHost("iptables", ...chain, ...rule, ...limit, "-j", "DROP");
  const open = [await blue1.connect(outsideAddress), await blue1.connect(outsideAddress)];
  const third = await blue1.probe("tcp", outsideAddress, { timeoutMs: silenceMs });
  expect(third).toMatch(/^error: /);
  for (const talk of open) expect(await talk("open")).toBe("wan:open");
  await uplink.ensure(uplinkEnd, signal);
  expect(await blue1.probe("tcp", outsideAddress)).toBe("wan:hello");
});

it("a default route over several interfaces, and one without any, are accepted", async () => {
  await onHost("ip", "route", "delete", "default");
  const hops = ["nexthop", "via", outsideAddress, "nexthop", "via", bridgedAddress];
  await onHost("ip", "route", "add", "default", "metric", "10", ...hops);
  await onHost("ip", "route", "add", "unreachable", "default", "metric", "20");
  await uplink.ensure(uplinkEnd, signal);
  const { stdout } = await onHost("iptables", "-S", "BERTH-FWD-berth0");
  for (const name of ["wan", "docker0"]) expect(stdout).toContain(`-o ${name} -j ACCEPT`);
  await onHost("ip", "route", "delete", "default", "metric", "10");
  // For a moment there is no default route: the last one applies.
  await uplink.ensure(uplinkEnd, signal);
  await onHost("ip", "route", "delete", "unreachable", "default");
  await onHost("ip", "route", "add", "default", "via", outsideAddress);
  await uplink.ensure(uplinkEnd, signal);
  expect(await red1.probe("tcp", outsideAddress)).toBe("wan:hello");
});

it("packets leave only on the interfaces that the operator names", async () => {
  const probe = (address: string) => red1.probe("udp", address, { timeoutMs: silenceMs });
  expect(await probe(bridgedAddress)).toMatch(/^error: /);
  await createTestUplink({ outboundInterfaces: ["docker0"] }).ensure(uplinkEnd, signal);
  expect(await probe(bridgedAddress)).toBe("docker0:hello");
  expect(await probe(outsideAddress)).toMatch(/^error: /);
  await uplink.ensure(uplinkEnd, signal);
  expect(await probe(outsideAddress)).toBe("wan:hello");
});

it("a flush of the packet filter is noticed, and a change of the published ports is ignored", async () => {
  await uplink.publish([], signal);
  const watch = createFilterWatch({ bridge: "berth0" });
  expect(await watch.isUnchanged(signal)).toBe(true);
  await watch.remember(signal);
  await uplink.publish([{ protocol: "tcp", hostPort: 20_001, address: "198.19.0.7" }], signal);
  await red1.probe("udp", outsideAddress);
  await onHost("iptables", "-A", "FORWARD", "-d", "192.0.2.9", "-j", "DROP");
  expect(await watch.isUnchanged(signal)).toBe(true);
  for (const flush of [
    ["-F", "INPUT"],
    ["-t", "mangle", "-F"],
    ["-t", "raw", "-F", "OUTPUT"],
  ]) {
    await onHost("iptables", ...flush);
    expect([flush, await watch.isUnchanged(signal)]).toEqual([flush, false]);
    await uplink.ensure(uplinkEnd, signal);
    expect([flush, await watch.isUnchanged(signal)]).toEqual([flush, true]);
  }
  await uplink.publish([], signal);
});

it("a route that contains the addresses of the uplink is refused, and an old route is removed", async () => {
  await onHost("ip", "route", "add", "198.18.0.0/15", "dev", "wan");
  await expect(uplink.ensure(uplinkEnd, signal)).rejects.toThrow(
    "a route to 198.18.0.0/15 on wan.",
  );
  await onHost("ip", "route", "delete", "198.18.0.0/15", "dev", "wan");
  // A VPN that carries all packets has such a route.
  await onHost("ip", "route", "add", "128.0.0.0/1", "dev", "wan");
  await uplink.ensure(uplinkEnd, signal);
  await onHost("ip", "route", "delete", "128.0.0.0/1", "dev", "wan");
  await onHost("ip", "route", "add", "10.200.0.0/16", "dev", uplinkEnd.interfaceName);
  await uplink.ensure(uplinkEnd, signal);
  const { stdout } = await onHost("ip", "route", "show", "dev", uplinkEnd.interfaceName);
  expect(stdout.trim().split("\n")).toHaveLength(1);
});

it("another route to the addresses of the uplink is refused", async () => {
  await onHost("ip", "route", "add", "198.19.4.0/24", "dev", "wan");
  await expect(uplink.ensure(uplinkEnd, signal)).rejects.toThrow(
    "The host has a route to 198.19.4.0/24 on wan.",
  );
  await onHost("ip", "route", "delete", "198.19.4.0/24", "dev", "wan");
  await uplink.ensure(uplinkEnd, signal);
});
