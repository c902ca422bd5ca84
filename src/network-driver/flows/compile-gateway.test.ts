import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  type FlowFrame,
  type FlowResult,
  interpretFlows,
} from "../../../test/support/ovs/flow-interpreter.ts";
import { member, tunneled } from "../../../test/support/ovs/flow-samples.ts";
import { rulesArbitrary, serviceIds } from "../../../test/support/network/rule-samples.ts";
import { deriveMac } from "../../contracts/common/mac-address.ts";
import { createConnectionDecider } from "../../contracts/network-driver/decide-connection.ts";
import type { HostRule } from "../../contracts/network-driver/host-rule.ts";
import { GATEWAY_TARGETS_MAX } from "../../contracts/network-driver/network-state.ts";
import { gatewayZoneKey, limitGatewayPorts } from "./compile-gateway.ts";
import {
  compileFlows,
  type FlowInput,
  type LocalPort,
  type RemotePort,
  uplinkAddress,
} from "./compile-flows.ts";
import { type Datapath, renderFlow, UPLINK_MAC } from "./flow.ts";

const TUNNEL = 1;
const UPLINK = 2;
const VNI = 4_097;
const ZONE = 7;
const GATEWAY_ZONE = 8;
/** The hosts of the sets, and the gateway. */
const setHost = "172.31.0.2";
const gatewayHost = "172.31.0.1";
const gatewayAddress = "10.64.9.9";
const client = "203.0.113.9";
const firstAddress = "198.19.0.0";
const own = uplinkAddress(firstAddress, ZONE);
const hostPort = 443;
const port = 8_080;
const [serviceId = "", otherId = "", thirdId = ""] = serviceIds;

interface SampleSet {
  number: number;
  isLocal: boolean;
  isPublished: boolean;
  isEndpoint: boolean;
}

const setsArbitrary = fc.uniqueArray(
  fc.record({
    number: fc.integer({ min: 1, max: 12 }),
    isLocal: fc.boolean(),
    isPublished: fc.constantFrom(true, true, false),
    isEndpoint: fc.boolean(),
  }),
  { selector: ({ number }) => number, minLength: 1, maxLength: 8 },
);

const inputArbitrary = fc.record({
  sets: setsArbitrary,
  datapath: fc.constantFrom<Datapath>("system", "netdev"),
  protocol: fc.constantFrom("tcp" as const, "udp" as const),
  hash: fc.integer({ min: 0, max: 1_000 }),
});

interface Sample {
  sets: readonly SampleSet[];
  datapath: Datapath;
  protocol: "tcp" | "udp";
  rules?: readonly HostRule[];
}

/** The flows of the gateway. Sets that are not on it are on one other host. */
function compileGatewayHost({ sets, datapath, protocol, rules = [] }: Sample): FlowInput {
  const localPorts: LocalPort[] = [];
  const remotePorts: RemotePort[] = [];
  for (const { number, isLocal } of sets)
    if (isLocal) localPorts.push({ ...member(number, 4), networkId: "net", ofPort: 10 + number });
    else remotePorts.push({ ...member(number, 4), tunnelAddress: setHost });
  const services = [true, false].map((isPublished) => ({
    serviceId: isPublished ? serviceId : otherId,
    addresses: [],
    members: sets
      .filter((set) => set.isPublished === isPublished)
      .map(({ number, isEndpoint }) => ({ addresses: member(number, 4).addresses, isEndpoint })),
  }));
  const network = {
    networkId: "net",
    vni: VNI,
    conntrackZone: ZONE,
    gatewayZone: GATEWAY_ZONE,
    gateways: [],
    gateway: { address: gatewayAddress, ports: [{ serviceId, protocol, hostPort, port }] },
    remotePorts,
    services,
    rules,
  };
  const uplink = { ofPort: UPLINK, firstAddress };
  return { datapath, localPorts, networks: [network], tunnelPort: TUNNEL, uplink };
}

function fromClient(protocol: "tcp" | "udp", change: Partial<FlowFrame> = {}): FlowFrame {
  return {
    protocols: ["ip", protocol],
    fields: {
      in_port: String(UPLINK),
      dl_src: UPLINK_MAC,
      nw_src: client,
      nw_dst: own,
      tp_dst: String(hostPort),
    },
    ...change,
  };
}

/** A packet of a set on the other host to the gateway's address. */
function answer(protocol: "tcp" | "udp", from: string, change: Partial<FlowFrame>): FlowFrame {
  const fields = { in_port: String(TUNNEL), nw_src: from, nw_dst: gatewayAddress };
  return { ...tunneled({ protocols: ["ip", protocol], fields }, VNI, setHost), ...change };
}

const addressOf = (number: number) => member(number, 4).addresses[0] ?? "";
const labelOf = (number: number) => `0xa4000${number.toString(16).padStart(2, "0")}`;

/** Expects that the packet reaches this set, and that its connection is committed. */
function expectReaches(result: FlowResult, { number, isLocal }: SampleSet): void {
  const mac = member(number, 4).mac;
  expect(result.outputs).toHaveLength(1);
  const [output] = result.outputs;
  expect(output?.fields).toMatchObject({
    dl_dst: mac,
    nw_dst: addressOf(number),
    tp_dst: String(port),
    nw_src: isLocal ? client : gatewayAddress,
  });
  expect(output?.port).toBe(String(isLocal ? 10 + number : TUNNEL));
  if (!isLocal)
    expect(output?.fields).toMatchObject({
      dl_src: deriveMac([gatewayAddress]),
      tun_id: String(VNI),
      tun_dst: setHost,
    });
  const translation = `dst=${addressOf(number)}:${port}`;
  expect(result.commits).toEqual([
    { destination: own, translation, label: labelOf(number) },
    ...(isLocal
      ? []
      : [
          {
            destination: addressOf(number),
            translation: `src=${gatewayAddress}`,
            label: undefined,
          },
        ]),
  ]);
  expect(result.zonesCommitted).toEqual((isLocal ? [ZONE] : [ZONE, GATEWAY_ZONE]).map(String));
}

describe("a gateway", () => {
  it("leads a new connection to one endpoint of the published service, on any host", () => {
    fc.assert(
      fc.property(inputArbitrary, ({ hash, ...sample }) => {
        const bridge = interpretFlows(compileFlows(compileGatewayHost(sample)));
        const result = bridge(fromClient(sample.protocol, { hash }));
        const endpoints = sample.sets
          .filter(({ isPublished, isEndpoint }) => isPublished && isEndpoint)
          .toSorted((a, b) => (addressOf(a.number) < addressOf(b.number) ? -1 : 1));
        const chosen = endpoints[hash % endpoints.length];
        if (chosen) expectReaches(result, chosen);
        else expect(result).toMatchObject({ outputs: [], commits: [] });
      }),
    );
  });

  it("leads later packets to the set of the connection, whatever the endpoints are", () => {
    fc.assert(
      fc.property(inputArbitrary, ({ hash, ...sample }) => {
        const bridge = interpretFlows(compileFlows(compileGatewayHost(sample)));
        for (const set of sample.sets.filter(({ isPublished }) => isPublished)) {
          const label = labelOf(set.number);
          const translatedTo = addressOf(set.number);
          // The kernel's datapath translates no packet before the first answer.
          if (sample.datapath === "system")
            expectReaches(bridge(fromClient(sample.protocol, { hash, label })), set);
          const translated = { label, translatedTo, fields: fromClient(sample.protocol).fields };
          for (const connection of ["new", "est"] as const) {
            const tp_dst = String(port);
            const fields = { ...translated.fields, tp_dst };
            const frame = fromClient(sample.protocol, { ...translated, fields, connection, hash });
            const [output] = bridge(frame).outputs;
            expect(output?.port).toBe(String(set.isLocal ? 10 + set.number : TUNNEL));
            expect(output?.fields).toMatchObject({
              nw_dst: translatedTo,
              nw_src: set.isLocal ? client : gatewayAddress,
            });
          }
        }
      }),
    );
  });

  it("passes the answers of its connections to the uplink, and accepts nothing else", () => {
    fc.assert(
      fc.property(inputArbitrary, ({ hash: _hash, ...sample }) => {
        const bridge = interpretFlows(compileFlows(compileGatewayHost(sample)));
        for (const { number, isLocal } of sample.sets) {
          if (isLocal) continue;
          const from = addressOf(number);
          const opened = bridge(answer(sample.protocol, from, { connection: "new" }));
          expect(opened).toMatchObject({ outputs: [], commits: [] });
          const result = bridge(
            answer(sample.protocol, from, { connection: "est", translatedTo: client }),
          );
          expect(result.outputs).toHaveLength(1);
          expect(result.outputs[0]).toMatchObject({
            port: String(UPLINK),
            fields: { dl_dst: UPLINK_MAC, nw_dst: client },
          });
          expect(result.zonesTracked).toEqual([GATEWAY_ZONE, ZONE].map(String));
        }
      }),
    );
  });

  it("decides by the ingress rules, with the client as an external peer", () => {
    fc.assert(
      fc.property(inputArbitrary, rulesArbitrary, ({ hash, ...sample }, rules) => {
        const isEndpoint = true;
        const sets = sample.sets
          .slice(0, 1)
          .map((set) => ({ ...set, isPublished: true, isEndpoint }));
        const [set] = sets;
        const bridge = interpretFlows(compileFlows(compileGatewayHost({ ...sample, sets, rules })));
        const { isAllowed } = createConnectionDecider(rules)({
          from: { address: client, serviceId: null, isInNetwork: false },
          to: { address: addressOf(set?.number ?? 0), serviceId, isInNetwork: true },
          protocol: sample.protocol,
          port,
        });
        const { outputs } = bridge(fromClient(sample.protocol, { hash }));
        expect(outputs).toHaveLength(isAllowed ? 1 : 0);
      }),
    );
  });
});

describe("the host of a set", () => {
  it("accepts the gateway at its published ports alone, and from the gateway's host, whatever the rules", () => {
    fc.assert(
      fc.property(
        fc.constantFrom<Datapath>("system", "netdev"),
        rulesArbitrary,
        fc.option(fc.constant(serviceId)),
        (datapath, rules, ownService) => {
          const set = { ...member(2, 4), networkId: "net", ofPort: 12 };
          const unpublished = { ...member(5, 4), networkId: "net", ofPort: 15 };
          const services = [
            {
              serviceId: ownService ?? otherId,
              addresses: [],
              members: [{ addresses: set.addresses, isEndpoint: true }],
            },
            {
              serviceId: thirdId,
              addresses: [],
              members: [{ addresses: unpublished.addresses, isEndpoint: true }],
            },
          ];
          const remotePorts = [
            {
              mac: deriveMac([gatewayAddress]) ?? "",
              addresses: [gatewayAddress],
              tunnelAddress: gatewayHost,
              trustedPorts: [{ serviceId, protocol: "tcp" as const, port }],
            },
            { ...member(3, 4), tunnelAddress: setHost },
          ];
          const base = { networkId: "net", vni: VNI, conntrackZone: ZONE, gateways: [] };
          const denyAll: HostRule = {
            ruleId: "rule_01jd0000000000000000999999",
            name: "deny",
            priority: 9_999,
            direction: "ingress",
            action: "deny",
            protocol: "any",
            ports: [],
            serviceId: null,
            peer: { kind: "any" },
          };
          const bridge = interpretFlows(
            compileFlows({
              datapath,
              localPorts: [set, unpublished],
              networks: [{ ...base, remotePorts, services, rules: [...rules, denyAll] }],
              tunnelPort: TUNNEL,
            }),
          );
          const count = (
            host: string,
            protocol = "tcp",
            toPort = port,
            { from = gatewayAddress, to = set } = {},
          ) => {
            const fields = {
              in_port: String(TUNNEL),
              dl_dst: to.mac,
              nw_src: from,
              nw_dst: to.addresses[0] ?? "",
              tp_dst: String(toPort),
            };
            const frame = { protocols: ["ip", protocol], fields };
            return bridge(tunneled(frame, VNI, host)).outputs.length;
          };
          expect(count(gatewayHost)).toBe(ownService === null ? 0 : 1);
          expect(count(setHost)).toBe(0);
          expect(count(gatewayHost, "udp")).toBe(0);
          expect(count(gatewayHost, "icmp")).toBe(0);
          expect(count(gatewayHost, "tcp", port + 1)).toBe(0);
          expect(count(gatewayHost, "tcp", port, { from: addressOf(3) })).toBe(0);
          expect(count(gatewayHost, "tcp", port, { to: unpublished })).toBe(0);
        },
      ),
    );
  });
});

describe("the port of a set", () => {
  const sets = [2, 3, 4].map((number) => ({
    number,
    isLocal: number === 4,
    isPublished: true,
    isEndpoint: true,
  }));

  it("is that of its own revision, and a set without the port gets no connection", () => {
    for (const datapath of ["system", "netdev"] as const) {
      const input = compileGatewayHost({ sets, datapath, protocol: "tcp" });
      const [network] = input.networks;
      if (!network?.gateway) throw new Error("the host is a gateway");
      const services = (network.services ?? []).map((service) => ({
        ...service,
        members: service.members.map((one) => ({ ...one, setId: `set ${one.addresses[0]}` })),
      }));
      const exceptions = [
        { setId: `set ${addressOf(3)}`, port: 9_090 },
        { setId: `set ${addressOf(4)}`, port: null },
      ];
      const ports = network.gateway.ports.map((each) => ({ ...each, exceptions }));
      const networks = [{ ...network, services, gateway: { ...network.gateway, ports } }];
      const bridge = interpretFlows(compileFlows({ ...input, networks }));
      const reached = [0, 1, 2].map((hash) => bridge(fromClient("tcp", { hash })));
      const ends = reached.map(({ outputs }) => [
        outputs[0]?.fields["nw_dst"],
        outputs[0]?.fields["tp_dst"],
      ]);
      const [first, second] = [
        [addressOf(2), "8080"],
        [addressOf(3), "9090"],
      ];
      expect(ends).toEqual([first, second, first]);
    }
  });

  it("has flows for a bounded number of sets, those of the first networks", () => {
    const members = Array.from({ length: GATEWAY_TARGETS_MAX / 4 }, () => ({
      addresses: [],
      isEndpoint: true,
    }));
    const portOf = (at: number) => ({ serviceId, protocol: "tcp" as const, hostPort: at, port });
    const networkOf = (vni: number) => ({
      networkId: `net_${vni}`,
      vni,
      services: [{ serviceId, addresses: [], members }],
      gateway: { address: gatewayAddress, ports: [1, 2, 3].map(portOf) },
    });
    const limited = limitGatewayPorts([networkOf(2), networkOf(1)]);
    expect(limited.get("net_1")).toHaveLength(3);
    expect(limited.get("net_2")).toEqual([portOf(1)]);
  });
});

it("the second zone of a network has a key of its own", () => {
  expect(gatewayZoneKey(1)).toBeGreaterThan(2 ** 24 - 1);
});

it("a host without an uplink has no gateway", () => {
  const input = compileGatewayHost({
    sets: [{ number: 2, isLocal: false, isPublished: true, isEndpoint: true }],
    datapath: "netdev",
    protocol: "tcp",
  });
  const flows = compileFlows({ ...input, uplink: undefined }).map(renderFlow);
  expect(flows.join("\n")).not.toContain(gatewayAddress);
});
