import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { HostRule } from "../../src/contracts/network-driver/host-rule.ts";
import { linkLocalOf } from "../../src/network-driver/flows/flow-addresses.ts";
import { sampleRule, serviceIds } from "../support/network/rule-samples.ts";
import { TestHosts, type TestNetwork, type TestSet } from "../support/ovs/test-hosts.ts";

const red: TestNetwork = { networkId: "red", vni: 4097 };
const blue: TestNetwork = { networkId: "blue", vni: 4098 };
const [web = "", database = "", admin = ""] = serviceIds;
/** The port on which every fake set serves. */
const served = 7_000;
/** The service address of the service database. */
const databaseAddress = "10.64.0.100";
/** Long for a packet on this machine, because these answers must not arrive. */
const silenceMs = 1_000;

/**
 * Two hosts. The services web and admin have a set on the first host, and database has one on each
 * host. The network blue has the same addresses, and no rules.
 */
let hosts: TestHosts;
let webSet: TestSet;
let remoteDatabase: TestSet;
let localDatabase: TestSet;
let adminSet: TestSet;
let blue1: TestSet;
let blue2: TestSet;

beforeAll(async () => {
  hosts = await TestHosts.start();
  webSet = await hosts.addSet(hosts.first, red, 1);
  remoteDatabase = await hosts.addSet(hosts.second, red, 2);
  localDatabase = await hosts.addSet(hosts.first, red, 3);
  adminSet = await hosts.addSet(hosts.first, red, 4);
  blue1 = await hosts.addSet(hosts.first, blue, 1);
  blue2 = await hosts.addSet(hosts.second, blue, 2);
  const member = ({ ipv4, ipv6 }: TestSet) => ({ addresses: [ipv4, ipv6], isEndpoint: true });
  const service = (serviceId: string, ...sets: TestSet[]) => ({
    serviceId,
    addresses: [],
    members: sets.map(member),
  });
  hosts.services.set(red.vni, [
    service(web, webSet),
    { ...service(database, remoteDatabase, localDatabase), addresses: [databaseAddress] },
    service(admin, adminSet),
  ]);
});
afterAll(() => hosts.close());
beforeEach(() => apply());

async function apply(...changes: Partial<HostRule>[]): Promise<void> {
  const rules = changes.map((change, index) => sampleRule(index, change));
  hosts.rules.set(red.vni, rules);
  await hosts.apply();
  // A busy switch would forward some packets by the flows before the change.
  for (const { ovs } of [hosts.first, hosts.second])
    await ovs.ovs("ovs-appctl", "--target=ovs-vswitchd", "revalidator/purge");
}

type Protocol = "tcp" | "udp" | "icmp";

function addressesOf(to: TestSet): string[] {
  return [to.ipv4, to.ipv6, `${linkLocalOf(to.mac)}%eth0`];
}

async function expectReach(from: TestSet, to: TestSet, ...all: Protocol[]): Promise<void> {
  const probes = addressesOf(to).flatMap((address) =>
    all.map(async (protocol) => {
      const answer = await from.probe(protocol, address);
      expect([protocol, address, answer]).toEqual([
        protocol,
        address,
        protocol === "icmp" ? "hello" : `${to.name}:hello`,
      ]);
    }),
  );
  await Promise.all(probes);
}

async function expectSilence(from: TestSet, to: TestSet, ...all: Protocol[]): Promise<void> {
  const probes = addressesOf(to).flatMap((address) =>
    all.map(async (protocol) => {
      const answer = await from.probe(protocol, address, { timeoutMs: silenceMs });
      expect([protocol, address, answer]).toEqual([
        protocol,
        address,
        expect.stringMatching(/^error: /),
      ]);
    }),
  );
  await Promise.all(probes);
}

const ports = [{ first: served, last: served }];

describe.each([
  ["one host", () => localDatabase],
  ["two hosts", () => remoteDatabase],
])("on %s, rules", (_, target) => {
  it("deny one protocol to a receiver, and no answer to its own connections", async () => {
    for (const protocol of ["tcp", "udp", "icmp"] as const) {
      await apply({ direction: "ingress", action: "deny", serviceId: database, protocol });
      const others = (["tcp", "udp", "icmp"] as const).filter((one) => one !== protocol);
      await expectSilence(webSet, target(), protocol);
      await expectReach(webSet, target(), ...others);
      await expectReach(target(), webSet, "tcp", "udp", "icmp");
    }
  });

  it("deny one protocol to a sender, and no answer to connections of others", async () => {
    for (const protocol of ["tcp", "udp", "icmp"] as const) {
      await apply({ direction: "egress", action: "deny", serviceId: web, protocol });
      const others = (["tcp", "udp", "icmp"] as const).filter((one) => one !== protocol);
      await expectSilence(webSet, target(), protocol);
      await expectReach(webSet, target(), ...others);
      await expectReach(target(), webSet, "tcp", "udp", "icmp");
    }
  });

  it("permit one peer and port in front of a rule that denies all others", async () => {
    const denyAll = { direction: "ingress", action: "deny", priority: 0 } as const;
    const peer = { kind: "service", serviceId: web } as const;
    const allow = { direction: "ingress", serviceId: database, protocol: "tcp", peer } as const;
    await apply(denyAll, { ...allow, ports });
    await expectReach(webSet, target(), "tcp");
    await expectSilence(webSet, target(), "udp", "icmp");
    await expectSilence(adminSet, target(), "tcp", "udp", "icmp");
    await expectSilence(target(), webSet, "tcp");

    await apply(denyAll, { ...allow, ports: [{ first: served + 1, last: 65_535 }] });
    await expectSilence(webSet, target(), "tcp");
    await apply(denyAll, { ...allow, ports: [{ first: 6_990, last: 7_010 }] });
    await expectReach(webSet, target(), "tcp");
  });

  it("name subnets and the network as peers", async () => {
    const denyAll = { action: "deny", serviceId: web, priority: 0 } as const;
    await apply(denyAll, { peer: { kind: "cidr", cidr: `${target().ipv4}/32` } });
    expect(await webSet.probe("tcp", target().ipv4)).toBe(`${target().name}:hello`);
    expect(await webSet.probe("tcp", target().ipv6, { timeoutMs: silenceMs })).toMatch(/^error/);
    await apply(denyAll, { peer: { kind: "cidr", cidr: "fd00::/64" } });
    expect(await webSet.probe("udp", target().ipv6)).toBe(`${target().name}:hello`);
    expect(await webSet.probe("udp", target().ipv4, { timeoutMs: silenceMs })).toMatch(/^error/);
    await apply(denyAll, { peer: { kind: "network" } });
    await expectReach(webSet, target(), "tcp", "udp", "icmp");
  });

  it("see the ports of a datagram in fragments", async () => {
    const text = "0123456789".repeat(600);
    const toPort = { direction: "ingress", protocol: "udp", ports } as const;
    await apply({ ...toPort, action: "deny" });
    for (const address of [target().ipv4, target().ipv6])
      expect(await webSet.probe("udp", address, { text, timeoutMs: silenceMs })).toMatch(/^error/);
    await apply({ direction: "ingress", action: "deny", priority: 0 }, toPort);
    for (const address of [target().ipv4, target().ipv6])
      expect(await webSet.probe("udp", address, { text })).toBe(`${target().name}:${text}`);
  });
});

describe("rules", () => {
  it("apply at the receiver to packets of a host that does not know them", async () => {
    hosts.rules.set(red.vni, [
      sampleRule(1, { direction: "ingress", action: "deny", serviceId: database }),
    ]);
    await hosts.apply({ hosts: [hosts.second] });
    await expectSilence(webSet, remoteDatabase, "tcp", "udp", "icmp");
    await expectReach(webSet, localDatabase, "tcp", "udp", "icmp");
  });

  it("apply to connections to a service address as to those to its sets", async () => {
    const probe = (from: TestSet) =>
      from.probe("tcp", databaseAddress, { timeoutMs: 3 * silenceMs });
    const peer = { kind: "service", serviceId: database } as const;
    await apply({ action: "deny", peer, serviceId: web });
    expect(await probe(webSet)).toMatch(/^error: /);
    expect(await probe(adminSet)).toMatch(/^red-[23]:hello$/);
    const from = { kind: "service", serviceId: admin } as const;
    await apply({ direction: "ingress", action: "deny", serviceId: database, peer: from });
    expect(await probe(webSet)).toMatch(/^red-[23]:hello$/);
    expect(await probe(adminSet)).toMatch(/^error: /);
  });

  it("do not apply to other networks", async () => {
    await apply({ direction: "ingress", action: "deny" }, { direction: "egress", action: "deny" });
    await expectSilence(webSet, remoteDatabase, "tcp");
    await expectReach(blue1, blue2, "tcp", "udp", "icmp");
  });

  it("leave open connections, and counters of unchanged rules, alone", async () => {
    const allow = {
      direction: "ingress",
      serviceId: database,
      protocol: "tcp",
      priority: 9,
    } as const;
    await apply(allow);
    const acrossHosts = await webSet.connect(remoteDatabase.ipv4);
    const onOneHost = await webSet.connect(localDatabase.ipv6);
    expect(await acrossHosts("before")).toBe(`${remoteDatabase.name}:before`);
    expect(await onOneHost("before")).toBe(`${localDatabase.name}:before`);
    const packets = async () => {
      const dump = await hosts.second.ovs.ovs("ovs-ofctl", "dump-flows", "berth0", "table=14");
      const lines = dump.split("\n").filter((one) => one.includes("priority=1018"));
      const counts = lines.map((line) => Number(/n_packets=(\d+)/.exec(line)?.[1]));
      return counts.reduce((sum, count) => sum + count, 0);
    };
    const before = await expect.poll(packets).toBeGreaterThan(0).then(packets);
    await apply(allow, { direction: "ingress", action: "deny", priority: 10 });
    expect(await packets()).toBeGreaterThanOrEqual(before);
    expect(await acrossHosts("after")).toBe(`${remoteDatabase.name}:after`);
    expect(await onOneHost("after")).toBe(`${localDatabase.name}:after`);
    await expectSilence(webSet, remoteDatabase, "tcp");
    await expectSilence(webSet, localDatabase, "tcp");
  });

  it("return with all flows after a crash of the switch", async () => {
    const deny = { direction: "ingress", action: "deny", serviceId: database } as const;
    await apply({ ...deny, protocol: "udp", ports });
    await hosts.second.ovs.killSwitch();
    await hosts.second.ovs.startSwitch();
    await hosts.second.switchPort.ensureBridge(new AbortController().signal);
    await hosts.apply();
    const text = "0123456789".repeat(600);
    const { ipv4, name } = remoteDatabase;
    expect(await webSet.probe("udp", ipv4, { text, timeoutMs: silenceMs })).toMatch(/^error/);
    expect(await webSet.probe("tcp", ipv4)).toBe(`${name}:hello`);
  });

  it("are accepted with every kind of match", async () => {
    const matches: Partial<HostRule>[] = (["any", "tcp", "udp", "icmp"] as const).flatMap(
      (protocol) =>
        (["ingress", "egress"] as const).flatMap((direction) =>
          (
            [
              { kind: "any" },
              { kind: "network" },
              { kind: "service", serviceId: web },
              { kind: "cidr", cidr: "0.0.0.0/0" },
              { kind: "cidr", cidr: "10.64.0.0/16" },
              { kind: "cidr", cidr: "::/0" },
              { kind: "cidr", cidr: "fd00::/64" },
            ] as const
          ).map((peer) => ({
            protocol,
            direction,
            peer,
            serviceId: direction === "egress" ? web : null,
            ports: protocol === "tcp" || protocol === "udp" ? [{ first: 1, last: 65_534 }] : [],
          })),
        ),
    );
    await apply(...matches);
    const count = await hosts.first.switchPort.countFlows(new AbortController().signal);
    expect(count).toBe((await hosts.compile(hosts.first)).length);
    await expectReach(webSet, remoteDatabase, "tcp", "udp", "icmp");
  });
});
