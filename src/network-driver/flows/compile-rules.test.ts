import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  protocolArbitrary,
  rulesArbitrary,
  sampleRule,
  serviceIds,
} from "../../../test/support/network/rule-samples.ts";
import { type FlowFrame, interpretFlows } from "../../../test/support/ovs/flow-interpreter.ts";
import {
  type Connection,
  type ConnectionEnd,
  createConnectionDecider,
} from "../../contracts/network-driver/decide-connection.ts";
import type { HostRule } from "../../contracts/network-driver/host-rule.ts";
import { compileFlows, type FlowInput, type FlowNetwork } from "./compile-flows.ts";
import { linkLocalOf } from "./flow-addresses.ts";
import { type Datapath, type Flow, flowTables, GATEWAY_MAC, renderFlow } from "./flow.ts";
import { numberServices } from "./service-numbers.ts";

const TUNNEL = 1;
const UPLINK = 90;
const GATEWAY = "10.64.255.254";
const external = "203.0.113.9";
const [serviceA = "", serviceB = ""] = serviceIds;

interface Member {
  mac: string;
  addresses: string[];
  serviceId: string | undefined;
  /** The number of its port, or undefined for a set on the other host. */
  ofPort: number | undefined;
}

interface World {
  input: FlowInput;
  network: FlowNetwork;
  members: Member[];
  rules: HostRule[];
}

const memberArbitrary = fc.record({
  number: fc.integer({ min: 1, max: 6 }),
  families: fc.constantFrom(4, 6, 46),
  service: fc.constantFrom(0, 0, 1, 1, 2, undefined),
  isLocal: fc.boolean(),
});

/** A host with the sets of two networks, which have equal addresses and different rules. */
const worldArbitrary = fc
  .record({
    datapath: fc.constantFrom<Datapath>("system", "netdev"),
    sides: fc.tuple(
      ...[0, 1].map(() =>
        fc.record({
          numbers: fc.uniqueArray(memberArbitrary, {
            selector: ({ number }) => number,
            minLength: 2,
            maxLength: 6,
          }),
          rules: rulesArbitrary,
        }),
      ),
    ),
  })
  .map(({ datapath, sides }): World[] => {
    const all = sides.map(({ numbers, rules }, side) => {
      const members = numbers.map(({ number, families, service, isLocal }): Member => ({
        mac: `0a:00:0a:40:00:0${number}`,
        addresses: [
          ...(families === 6 ? [] : [`10.64.0.${number}`]),
          ...(families === 4 ? [] : [`fd00::${number}`]),
        ],
        serviceId: service === undefined ? undefined : serviceIds[service],
        ofPort: isLocal ? 10 + 10 * side + number : undefined,
      }));
      return { members, rules, network: toNetwork(side, members, rules) };
    });
    const input: FlowInput = {
      datapath,
      tunnelPort: TUNNEL,
      uplink: { ofPort: UPLINK, firstAddress: "198.19.0.0" },
      networks: all.map(({ network }) => network),
      localPorts: all.flatMap(({ members, network: { networkId } }) =>
        members.flatMap(({ ofPort, mac, addresses }) =>
          ofPort === undefined ? [] : [{ ofPort, mac, addresses, networkId }],
        ),
      ),
    };
    return all.map((one) => ({ ...one, input }));
  });

function toNetwork(side: number, members: readonly Member[], rules: HostRule[]): FlowNetwork {
  const services = serviceIds
    .map((serviceId) => ({
      serviceId,
      addresses: [],
      members: members
        .filter((member) => member.serviceId === serviceId)
        .map(({ addresses }) => ({ addresses, isEndpoint: true })),
    }))
    .filter((service) => service.members.length > 0);
  const remotePorts = members
    .filter(({ ofPort }) => ofPort === undefined)
    .map(({ mac, addresses }) => ({ mac, addresses, tunnelAddress: "172.31.0.2" }));
  return {
    networkId: `net_${side}`,
    vni: 4097 + side,
    conntrackZone: 7 + side,
    gateways: [GATEWAY],
    remotePorts,
    services,
    rules,
  };
}

const isIpv6 = (address: string) => address.includes(":");

/** All addresses of a member, with its link-local one. */
function addressesOf({ mac, addresses }: Member): string[] {
  return addresses.some(isIpv6) ? [...addresses, linkLocalOf(mac)] : addresses;
}

function endOf({ serviceId = null }: { serviceId?: string | undefined | null }, address: string) {
  return { address, serviceId, isInNetwork: true };
}

/** The frame that opens a connection from a member, on its way to `toMac`. */
function openingFrame(
  { from, to, protocol, port }: Connection,
  { sender, toMac, network }: { sender: Member; toMac: string; network: FlowNetwork },
): FlowFrame {
  const family = isIpv6(from.address) ? "ipv6" : "ip";
  const suffix = family === "ipv6" ? "6" : "";
  const [source, destination] =
    family === "ipv6" ? (["ipv6_src", "ipv6_dst"] as const) : (["nw_src", "nw_dst"] as const);
  const origin =
    sender.ofPort === undefined
      ? { in_port: String(TUNNEL), tun_id: String(network.vni), tun_src: "172.31.0.2" }
      : { in_port: String(sender.ofPort) };
  return {
    protocols: protocol === "other" ? [family] : [family, `${protocol}${suffix}`],
    fields: {
      ...origin,
      dl_src: sender.mac,
      dl_dst: toMac,
      [source]: from.address,
      [destination]: to.address,
      ...(port === null ? {} : { tp_dst: String(port) }),
      // Neither DHCP nor neighbor discovery.
      ...(protocol === "icmp" && suffix === "6" ? { icmpv6_type: "128" } : {}),
    },
  };
}

function namesService({ rules }: World): boolean {
  return rules.some(({ serviceId, peer }) => serviceId !== null || peer.kind === "service");
}

describe("the compiled rules", () => {
  const check = (
    property: (world: World, traffic: Pick<Connection, "protocol" | "port">) => void,
  ) =>
    fc.assert(
      fc.property(
        worldArbitrary,
        fc.array(protocolArbitrary, { minLength: 1, maxLength: 4 }),
        (worlds, all) => {
          for (const world of worlds) for (const traffic of all) property(world, traffic);
        },
      ),
      { numRuns: 150 },
    );

  it("decide connections between sets as the decision does, at the hosts of both ends", () => {
    let decided = 0;
    check((world, traffic) => {
      const { input, network, members } = world;
      const bridge = interpretFlows(compileFlows(input));
      const decide = createConnectionDecider(world.rules);
      for (const sender of members)
        for (const receiver of members) {
          if (sender === receiver || (sender.ofPort ?? receiver.ofPort) === undefined) continue;
          for (const from of addressesOf(sender))
            for (const to of addressesOf(receiver)) {
              if (isIpv6(from) !== isIpv6(to)) continue;
              const ends: { from: ConnectionEnd; to: ConnectionEnd } = {
                from: endOf(sender, from),
                to: endOf(receiver, to),
              };
              const connection = { ...ends, ...traffic };
              const { egress, ingress } = decide(connection);
              const isUnknown = [sender, receiver].some(
                ({ ofPort, serviceId }) => ofPort !== undefined && serviceId === undefined,
              );
              const isPermitted =
                !(isUnknown && namesService(world)) &&
                (sender.ofPort === undefined || egress?.action === "allow") &&
                (receiver.ofPort === undefined || ingress?.action === "allow");
              const where = { sender, toMac: receiver.mac, network };
              const frame = openingFrame(connection, where);
              const outputs = isPermitted ? [{ port: String(receiver.ofPort ?? TUNNEL) }] : [];
              expect(bridge(frame).outputs).toMatchObject(outputs);
              expect(bridge(frame).outputs).toHaveLength(outputs.length);
              expect(bridge({ ...frame, connection: "est" }).outputs).toHaveLength(1);
              if (egress?.rule ?? ingress?.rule) decided += 1;
            }
        }
    });
    expect(decided).toBeGreaterThan(1_000);
  });

  it("decide connections to external addresses and to the gateway as the decision does", () => {
    check((world, traffic) => {
      const { input, network, members } = world;
      const bridge = interpretFlows(compileFlows(input));
      const decide = createConnectionDecider(world.rules);
      for (const sender of members) {
        const from = sender.addresses.find((address) => !isIpv6(address));
        if (sender.ofPort === undefined || from === undefined) continue;
        // A packet to the gateway's MAC address leaves, even with the address of a set.
        for (const address of [external, "10.64.0.2", "198.51.100.7"]) {
          const to = { address, serviceId: null, isInNetwork: false };
          const connection = { from: endOf(sender, from), to, ...traffic };
          const isPermitted =
            !(sender.serviceId === undefined && namesService(world)) &&
            decide(connection).isAllowed;
          const where = { sender, toMac: GATEWAY_MAC, network };
          const { outputs } = bridge(openingFrame(connection, where));
          expect(outputs).toHaveLength(isPermitted ? 1 : 0);
        }
      }
    });
  });

  it("are equal for rules and services in any order", () => {
    check(({ input }) => {
      const networks = input.networks.map((network) => ({
        ...network,
        rules: network.rules?.toReversed() ?? [],
        services: network.services?.toReversed() ?? [],
      }));
      const other = compileFlows({ ...input, networks });
      expect(other.map(renderFlow)).toEqual(compileFlows(input).map(renderFlow));
    });
  });

  it("have distinct matches in each priority", () => {
    check(({ input }) => {
      const flows = compileFlows(input);
      const keys = flows.map(({ table, priority, match }) => `${table} ${priority} ${match}`);
      expect(new Set(keys).size).toBe(flows.length);
    });
  });
});

describe("the flows of rules", () => {
  const serviceOf = (serviceId: string, count: number, first: number) => ({
    serviceId,
    addresses: [],
    members: Array.from({ length: count }, (_, index) => ({
      addresses: [`10.64.${first}.${index + 1}`],
      isEndpoint: true,
    })),
  });
  const toMac = (first: number, index: number) =>
    `0a:00:0a:40:0${first}:${(index + 1).toString(16).padStart(2, "0")}`;
  const compile = (rules: HostRule[], remoteCount = 3): Flow[] =>
    compileFlows({
      datapath: "system",
      tunnelPort: TUNNEL,
      localPorts: [{ ofPort: 2, networkId: "net_a", mac: toMac(1, 0), addresses: ["10.64.1.1"] }],
      networks: [
        {
          networkId: "net_a",
          vni: 4097,
          conntrackZone: 7,
          gateways: [],
          remotePorts: Array.from({ length: remoteCount }, (_, index) => ({
            mac: toMac(2, index),
            addresses: [`10.64.2.${index + 1}`],
            tunnelAddress: "172.31.0.2",
          })),
          services: [serviceOf(serviceA, 1, 1), serviceOf(serviceB, remoteCount, 2)],
          rules,
        },
      ],
    });
  const inRules = (flows: readonly Flow[]) =>
    flows.filter(
      ({ table }) => table === flowTables.egressRules || table === flowTables.ingressRules,
    );
  const toB = (number: number): HostRule =>
    sampleRule(number, {
      serviceId: serviceA,
      peer: { kind: "service", serviceId: serviceB },
      protocol: "tcp",
      ports: [{ first: number, last: number }],
    });

  it("grow by one for each rule with a port, and by none for each member of a service", () => {
    const count = (rules: number, members: number) =>
      inRules(
        compile(
          Array.from({ length: rules }, (_, index) => toB(index + 1)),
          members,
        ),
      ).length;
    expect(count(20, 3) - count(10, 3)).toBe(10);
    expect(count(10, 100)).toBe(count(10, 3));
  });

  it("change only by the flows of a changed rule", () => {
    const rules = Array.from({ length: 10 }, (_, index) => toB(index + 1));
    const before = new Set(compile(rules).map(renderFlow));
    const after = compile([...rules.slice(1), { ...toB(99), priority: 5 }]).map(renderFlow);
    expect(after.filter((line) => !before.has(line))).toHaveLength(1);
    expect(after.length).toBe(before.size);
  });

  it("exist only for targets on the host, and once for rules with equal matches", () => {
    const none = inRules(compile([])).length;
    const elsewhere = { ...toB(1), serviceId: serviceB };
    expect(inRules(compile([elsewhere, toB(2)]))).toHaveLength(none + 2);
    expect(inRules(compile([toB(1), { ...toB(1), name: "same" }]))).toHaveLength(none + 2);
  });

  it("permit only a SYN to open a TCP connection, in a network with rules of any direction", () => {
    const bridge = (rules: HostRule[]) => {
      const decide = interpretFlows(compile(rules));
      const fields = { nw_src: "10.64.1.1", nw_dst: "10.64.2.1", tp_dst: "80" };
      const sent = { ...fields, in_port: "2", dl_src: toMac(1, 0), dl_dst: toMac(2, 0) };
      const count = (frame: Partial<FlowFrame>) =>
        decide({ protocols: ["ip", "tcp"], fields: sent, ...frame }).outputs.length;
      return [
        count({ tcpFlags: ["syn"] }),
        count({ tcpFlags: ["ack"] }),
        count({ tcpFlags: ["syn", "ack"] }),
        count({ tcpFlags: [] }),
        count({ tcpFlags: ["ack"], connection: "est" }),
        count({ tcpFlags: [], protocols: ["ip", "udp"] }),
      ];
    };
    expect(bridge([])).toEqual([1, 1, 1, 1, 1, 1]);
    expect(bridge([sampleRule(1)])).toEqual([1, 0, 0, 0, 1, 1]);
    expect(bridge([sampleRule(1, { direction: "ingress" })])).toEqual([1, 0, 0, 0, 1, 1]);
  });

  it("let no unknown sender of another host connect, if an ingress rule names a peer service", () => {
    const peer = { kind: "service", serviceId: serviceB } as const;
    const deny = { action: "deny", peer } as const;
    const count = (rules: HostRule[], source: string) => {
      const decide = interpretFlows(compile(rules));
      const fields = { in_port: String(TUNNEL), tun_id: "4097", tun_src: "172.31.0.2" };
      const ends = {
        nw_src: source,
        nw_dst: "10.64.1.1",
        dl_src: toMac(2, 0),
        dl_dst: toMac(1, 0),
      };
      return decide({ protocols: ["ip", "udp"], fields: { ...fields, ...ends } }).outputs.length;
    };
    const ingress = sampleRule(1, { ...deny, direction: "ingress" });
    const other = sampleRule(2, { ...deny, direction: "ingress", protocol: "tcp" });
    const unknown = "10.64.9.9";
    expect(count([ingress], "10.64.2.1")).toBe(0);
    expect(count([ingress], unknown)).toBe(0);
    // A known sender connects by what the rules do not deny, and an unknown one does not.
    expect(count([other], "10.64.2.1")).toBe(1);
    expect(count([other], unknown)).toBe(0);
    expect(count([sampleRule(1, deny)], unknown)).toBe(1);
    expect(count([sampleRule(1, { direction: "ingress" })], unknown)).toBe(1);
  });

  it("have a bound: beyond it the network permits no new connection", () => {
    const ports = Array.from({ length: 16 }, (_, index) => ({
      first: 4_096 * index + 1,
      last: 4_096 * index + 4_094,
    }));
    const rule = (number: number) => sampleRule(number, { protocol: "tcp", ports });
    const countOpening = (count: number) =>
      compile(Array.from({ length: count }, (_, number) => rule(number))).filter(
        ({ table, match }) =>
          (table === flowTables.egress || table === flowTables.ingress) && match.includes("+new"),
      ).length;
    expect(countOpening(200)).toBeGreaterThan(0);
    expect(countOpening(1_000)).toBe(0);
  });

  it("let a set of an unknown service open no connection, if a rule names a service", () => {
    const unknown = (rules: HostRule[]) => {
      const bridge = interpretFlows(
        compileFlows({
          datapath: "netdev",
          tunnelPort: TUNNEL,
          localPorts: [2, 3].map((ofPort) => ({
            ofPort,
            networkId: "net_a",
            mac: toMac(1, ofPort),
            addresses: [`10.64.1.${ofPort}`],
          })),
          networks: [
            {
              networkId: "net_a",
              vni: 4097,
              conntrackZone: 7,
              gateways: [],
              remotePorts: [],
              services: [],
              rules,
            },
          ],
        }),
      );
      const fields = { dl_src: toMac(1, 2), dl_dst: toMac(1, 3), nw_src: "10.64.1.2" };
      return bridge({ protocols: ["ip", "tcp"], fields: { ...fields, in_port: "2" } }).outputs
        .length;
    };
    expect(unknown([])).toBe(1);
    expect(unknown([sampleRule(1)])).toBe(1);
    expect(unknown([toB(1)])).toBe(0);
  });
});

describe("the numbers of services", () => {
  it("do not depend on other services, and are distinct", () => {
    const ids = Array.from({ length: 2_000 }, (_, index) => `svc_${index}`);
    const service = (serviceId: string) => ({ serviceId, members: [] });
    const all = numberServices(ids.map(service));
    const numbers = ids.map((serviceId) => all.ofService(serviceId));
    expect(new Set(numbers).size).toBe(ids.length);
    expect(numbers.every((number) => number > 0 && number < 2 ** 32)).toBe(true);
    const half = numberServices(ids.slice(1_000).map(service));
    expect(ids.slice(1_000).map((serviceId) => half.ofService(serviceId))).toEqual(
      numbers.slice(1_000),
    );
  });
});
