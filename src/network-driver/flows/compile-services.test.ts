import { SERVICE_MAC } from "../../contracts/common/mac-address.ts";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  type FlowFrame,
  type FlowResult,
  interpretFlows,
} from "../../../test/support/ovs/flow-interpreter.ts";
import {
  isIpv6,
  member,
  packet,
  request,
  tunneled,
} from "../../../test/support/ovs/flow-samples.ts";
import { seededRandom } from "../../../test/support/seeded-random.ts";
import {
  compileFlows,
  type FlowInput,
  type FlowNetwork,
  type LocalPort,
  type RemotePort,
} from "./compile-flows.ts";
import type { FlowService } from "./compile-services.ts";
import { type Datapath, GATEWAY_MAC, renderFlow } from "./flow.ts";

const TUNNEL = 1;
const TUNNEL_ADDRESS = "172.31.0.2";
const SERVICES = ["svc_a", "svc_b"] as const;

/** The address of a service, and the one that the bridge must not confuse it with. */
const addressesOf = (service: string) => {
  const index = SERVICES.findIndex((each) => each === service);
  return [`10.64.1.${index + 1}`, `fd00:1::${index + 1}`];
};

const membersArbitrary = fc.uniqueArray(
  fc.record({
    number: fc.integer({ min: 1, max: 12 }),
    families: fc.constantFrom(4, 6, 46),
    isLocal: fc.boolean(),
    service: fc.constantFrom(...SERVICES, undefined),
    isEndpoint: fc.boolean(),
    /** A set can be known before its port. */
    hasPort: fc.constantFrom(true, true, true, false),
  }),
  { selector: ({ number }) => number, minLength: 1, maxLength: 8 },
);

type TestInput = FlowInput & { networks: (FlowNetwork & { services: FlowService[] })[] };

/** A host with one or two networks, whose sets and services have the same addresses. */
const inputArbitrary = fc
  .record({
    datapath: fc.constantFrom<Datapath>("system", "netdev"),
    memberships: fc.array(membersArbitrary, { minLength: 1, maxLength: 2 }),
    hasTunnel: fc.constantFrom(true, true, false),
  })
  .map(({ datapath, memberships, hasTunnel }): TestInput => {
    const localPorts: LocalPort[] = [];
    const networks = memberships.map((members, index) => {
      const networkId = `net_${index}`;
      const remotePorts: RemotePort[] = [];
      for (const { number, families, isLocal, hasPort } of members) {
        const port = member(number, families);
        const ofPort = TUNNEL + localPorts.length + 1;
        if (!hasPort) continue;
        if (isLocal) localPorts.push({ ...port, networkId, ofPort });
        else remotePorts.push({ ...port, tunnelAddress: TUNNEL_ADDRESS });
      }
      const services = SERVICES.map((serviceId) => ({
        serviceId,
        addresses: addressesOf(serviceId),
        members: members
          .filter(({ service }) => service === serviceId)
          .map(({ number, families, isEndpoint }) => ({
            addresses: member(number, families).addresses,
            isEndpoint,
          })),
      }));
      const base = { networkId, vni: 4097 + index, conntrackZone: 7 + index, gateways: [] };
      return { ...base, remotePorts, services };
    });
    return { datapath, localPorts, networks, tunnelPort: hasTunnel ? TUNNEL : undefined };
  });

interface Caller {
  port: LocalPort;
  source: string;
  network: TestInput["networks"][number];
  service: FlowService;
  /** The service address. */
  address: string;
  /** The sets of the service that the host reaches, by their address of the family. */
  backends: Map<string, { mac: string; isEndpoint: boolean; ofPort: number | undefined }>;
  bridge: (frame: FlowFrame) => FlowResult;
}

/** Calls `visit` for each local port, service and family. */
function forEachCaller(visit: (caller: Caller) => void): void {
  fc.assert(
    fc.property(inputArbitrary, (input) => {
      const bridge = interpretFlows(compileFlows(input));
      for (const network of input.networks)
        for (const port of input.localPorts)
          for (const service of network.services)
            for (const address of service.addresses)
              for (const source of port.addresses) {
                if (port.networkId !== network.networkId) continue;
                if (isIpv6(source) !== isIpv6(address)) continue;
                const backends = listBackends(input, network, service, isIpv6(address));
                visit({ port, source, network, service, address, backends, bridge });
              }
    }),
    { numRuns: 40 },
  );
}

function listBackends(
  { localPorts, tunnelPort }: FlowInput,
  { networkId, remotePorts }: FlowNetwork,
  service: FlowService,
  wantsIpv6: boolean,
): Caller["backends"] {
  const backends: Caller["backends"] = new Map();
  const local = localPorts.filter((port) => port.networkId === networkId);
  for (const { addresses, isEndpoint } of service.members)
    for (const address of addresses.filter((each) => isIpv6(each) === wantsIpv6)) {
      const here = local.find((port) => port.addresses.includes(address));
      const there = remotePorts.find((port) => port.addresses.includes(address));
      const port = here ?? (tunnelPort === undefined ? undefined : there);
      if (port) backends.set(address, { mac: port.mac, isEndpoint, ofPort: here?.ofPort });
    }
  return backends;
}

function toAddress({ port, source }: Caller, destination: string, change: object = {}): FlowFrame {
  const { protocols, fields } = packet(port.ofPort, port.mac, source, SERVICE_MAC);
  const field = isIpv6(destination) ? "ipv6_dst" : "nw_dst";
  return { protocols, fields: { ...fields, [field]: destination }, ...change };
}

const destinationOf = (address: string) => (isIpv6(address) ? "ipv6_dst" : "nw_dst");
const sourceOf = (address: string) => (isIpv6(address) ? "ipv6_src" : "nw_src");
const labelOf = (address: string) =>
  isIpv6(address)
    ? `0xfd${"0".repeat(26)}${Number.parseInt(address.slice(6), 16).toString(16).padStart(4, "0")}`
    : `0xa4000${Number(address.split(".")[3]).toString(16).padStart(2, "0")}`;
const hashes = Array.from({ length: 12 }, (_, index) => index);

describe("a new connection to a service address", () => {
  it("goes to an endpoint, and reaches every endpoint but the caller", () => {
    forEachCaller((caller) => {
      const { backends, bridge, address, source } = caller;
      const endpoints = [...backends].filter(([each, { isEndpoint }]) => {
        return isEndpoint && each !== source;
      });
      const reached = new Set<string>();
      for (const hash of hashes) {
        const { outputs, commits, atEgress } = bridge(toAddress(caller, address, { hash }));
        if (endpoints.length === 0) {
          expect(outputs).toEqual([]);
          expect(commits).toEqual([]);
          continue;
        }
        const chosen = atEgress?.[destinationOf(address)] ?? "";
        const backend = backends.get(chosen);
        expect(backend?.isEndpoint).toBe(true);
        expect(outputs).toHaveLength(1);
        const [output] = outputs;
        expect(output?.port).toBe(String(backend?.ofPort ?? TUNNEL));
        expect(output?.fields).toMatchObject({
          dl_dst: backend?.mac,
          dl_src: caller.port.mac,
          [destinationOf(address)]: chosen,
          [sourceOf(address)]: source,
        });
        expect(commits).toEqual([
          { destination: address, translation: `dst=${chosen}`, label: labelOf(chosen) },
        ]);
        reached.add(chosen);
      }
      expect(reached).toEqual(new Set(endpoints.map(([each]) => each)));
    });
  });

  it("shows its set to the rules, and never the service address", () => {
    forEachCaller((caller) => {
      const { backends, bridge, address, network } = caller;
      for (const hash of hashes.slice(0, 3)) {
        const { atEgress } = bridge(toAddress(caller, address, { hash }));
        if (!atEgress) continue;
        expect(backends.has(atEgress[destinationOf(address)] ?? "")).toBe(true);
        expect(atEgress["reg0"]).toBe(String(network.vni));
      }
    });
  });

  it("stays on its set before the first answer, even if the set is not an endpoint", () => {
    forEachCaller((caller) => {
      const { backends, bridge, address } = caller;
      for (const [backend, { mac }] of backends) {
        // The kernel's datapath does not translate such a packet, and the netdev datapath does.
        const label = labelOf(backend);
        const kernel = bridge(toAddress(caller, address, { label, hash: 5 }));
        const netdev = bridge(toAddress(caller, address, { label, translatedTo: backend }));
        if (backend === caller.source) continue;
        for (const { outputs, atEgress } of [kernel, netdev]) {
          expect(outputs).toMatchObject([{ fields: { dl_dst: mac } }]);
          expect(outputs[0]?.fields[destinationOf(address)]).toBe(backend);
          expect(atEgress?.[destinationOf(address)]).toBe(backend);
        }
        expect(kernel.commits).toMatchObject([{ translation: `dst=${backend}`, label }]);
      }
      const label = labelOf(isIpv6(address) ? "fd00::ff" : "10.64.0.255");
      expect(bridge(toAddress(caller, address, { label })).outputs).toEqual([]);
    });
  });
});

describe("an open connection to a service address", () => {
  it("stays on its set while the host reaches it, whatever the endpoints are", () => {
    forEachCaller((caller) => {
      const { backends, bridge, address, source } = caller;
      const connection = "est";
      for (const [backend, { mac, ofPort }] of backends) {
        if (backend === source) continue;
        const frame = toAddress(caller, address, { connection, translatedTo: backend });
        const { outputs, commits } = bridge(frame);
        expect(outputs).toMatchObject([
          { port: String(ofPort ?? TUNNEL), fields: { dl_dst: mac, dl_src: caller.port.mac } },
        ]);
        expect(outputs[0]?.fields[destinationOf(address)]).toBe(backend);
        expect(commits).toEqual([]);
      }
      const deleted = isIpv6(address) ? "fd00::ff" : "10.64.0.255";
      const frame = toAddress(caller, address, { connection, translatedTo: deleted });
      expect(bridge(frame).outputs).toEqual([]);
    });
  });

  it("gets its answers from the service address, from this host and from others", () => {
    forEachCaller(({ bridge, backends, port, address, source, network }) => {
      for (const [backend, { mac, ofPort }] of backends) {
        if (backend === source) continue;
        const sent = packet(ofPort ?? TUNNEL, mac, backend, port.mac);
        const frame = ofPort === undefined ? tunneled(sent, network.vni, TUNNEL_ADDRESS) : sent;
        const answer = { ...frame, connection: "est" as const, translatedFrom: address };
        expect(bridge(answer).outputs).toMatchObject([
          { port: String(port.ofPort), fields: { [sourceOf(address)]: address } },
        ]);
      }
    });
  });
});

describe("a direct connection", () => {
  it("is committed with the sender's own address in networks with service addresses", () => {
    forEachCaller((caller) => {
      for (const [backend, { mac }] of caller.backends) {
        if (backend === caller.source) continue;
        const { protocols, fields } = toAddress(caller, backend);
        const { commits } = caller.bridge({ protocols, fields: { ...fields, dl_dst: mac } });
        expect(commits).toMatchObject([{ translation: `src=${caller.source}` }]);
      }
    });
  });

  it("from another host is committed as it is", () => {
    forEachCaller(({ bridge, port, source, network }) => {
      const [remote] = network.remotePorts;
      const from = remote?.addresses.find((each) => isIpv6(each) === isIpv6(source));
      if (!remote || from === undefined) return;
      const frame = tunneled(
        packet(TUNNEL, remote.mac, from, port.mac),
        network.vni,
        TUNNEL_ADDRESS,
      );
      for (const { translation } of bridge(frame).commits) expect(translation).toBe(undefined);
    });
  });

  it("to the gateway's MAC address is not translated before the rules", () => {
    forEachCaller((caller) => {
      const { protocols, fields } = toAddress(caller, caller.address);
      const frame = { protocols, fields: { ...fields, dl_dst: GATEWAY_MAC } };
      const { atEgress, outputs } = caller.bridge({
        ...frame,
        connection: "est",
        translatedTo: "10.64.0.255",
      });
      expect(atEgress?.[destinationOf(caller.address)]).toBe(caller.address);
      expect(outputs).toEqual([]);
    });
  });
});

describe("a request for the neighbor with a service address", () => {
  it("gets one answer, or becomes a solicitation of the service address", () => {
    fc.assert(
      fc.property(inputArbitrary, (input) => {
        const bridge = interpretFlows(compileFlows(input));
        for (const port of input.localPorts)
          for (const source of port.addresses)
            for (const address of addressesOf("svc_a").filter(
              (each) => isIpv6(each) === isIpv6(source),
            )) {
              const { outputs } = bridge(request(port.ofPort, port.mac, source, address));
              const mac = SERVICE_MAC;
              const solicits = { icmpv6_type: "135", ipv6_src: address, nd_target: source };
              const answer = !isIpv6(address)
                ? { arp_op: "2", arp_sha: mac, arp_spa: address, arp_tpa: source }
                : input.datapath === "netdev"
                  ? { icmpv6_type: "136", ipv6_src: address, ipv6_dst: source, nd_tll: mac }
                  : { ...solicits, ipv6_dst: source, nd_sll: mac };
              const fields = { ...answer, dl_src: mac, dl_dst: port.mac };
              expect(outputs).toHaveLength(1);
              expect(outputs).toMatchObject([{ port: "in_port", fields }]);
            }
      }),
      { numRuns: 40 },
    );
  });
});

describe("the flows of services", () => {
  it("are equal for equal inputs in any order, and distinct", () => {
    fc.assert(
      fc.property(inputArbitrary, (input) => {
        const random = seededRandom(1);
        const shuffle = <T>(items: readonly T[]) => items.toSorted(() => random() - 0.5);
        const networks = shuffle(input.networks).map((network) => ({
          ...network,
          remotePorts: shuffle(network.remotePorts),
          services: shuffle(network.services).map((service) => ({
            ...service,
            addresses: shuffle(service.addresses),
            members: shuffle(service.members),
          })),
        }));
        const other = { ...input, localPorts: shuffle(input.localPorts), networks };
        const flows = compileFlows(input);
        expect(compileFlows(other).map(renderFlow)).toEqual(flows.map(renderFlow));
        const keys = flows.map(({ table, priority, match }) => `${table} ${priority} ${match}`);
        expect(new Set(keys).size).toBe(flows.length);
      }),
      { numRuns: 40 },
    );
  });

  it("are linear in service addresses, addresses of sets, and local addresses", () => {
    fc.assert(
      fc.property(inputArbitrary, (input) => {
        const without = input.networks.map((network) => ({ ...network, services: [] }));
        const added =
          compileFlows(input).length - compileFlows({ ...input, networks: without }).length;
        const services = input.networks.flatMap((network) => network.services ?? []);
        const addresses = services.flatMap((service) => service.addresses);
        const members = services.flatMap((service) => service.members);
        const backends = members.flatMap((each) => each.addresses);
        const local = input.localPorts.flatMap((each) => each.addresses);
        expect(added).toBeLessThanOrEqual(
          2 * addresses.length + 5 * backends.length + local.length,
        );
      }),
      { numRuns: 40 },
    );
  });

  const port = { ...member(1, 46), networkId: "net_a", ofPort: 2 };
  const compile = (services: readonly FlowService[], change: Partial<FlowNetwork> = {}) =>
    compileFlows({
      datapath: "netdev",
      localPorts: [port],
      networks: [
        {
          networkId: "net_a",
          vni: 4097,
          conntrackZone: 7,
          gateways: ["10.64.0.254"],
          remotePorts: [],
          services,
          ...change,
        },
      ],
    }).map(renderFlow);

  it("do not exist for an address that a port or the gateway has", () => {
    const service = {
      serviceId: "svc_a",
      addresses: [],
      members: [{ addresses: ["10.64.0.1"], isEndpoint: true }],
    };
    for (const address of ["10.64.0.1", "fd00::1", "10.64.0.254"])
      expect(compile([{ ...service, addresses: [address] }])).toEqual(compile([service]));
  });

  it("exist once for a set that two services name, and an address that two services have", () => {
    const members = [{ addresses: ["10.64.0.1"], isEndpoint: true }];
    const first = { serviceId: "svc_a", addresses: ["10.64.1.1"], members };
    const second = { serviceId: "svc_b", addresses: ["10.64.1.2", "10.64.1.1"], members };
    const both = compile([second, first]);
    expect(both).toEqual(expect.arrayContaining(compile([first])));
    expect(both.filter((flow) => flow.includes("nat(dst=10.64.0.1)"))).toHaveLength(1);
  });

  it("permit no new connection in a network whose rules are unknown", () => {
    const remotePorts = [{ ...member(2, 4), tunnelAddress: TUNNEL_ADDRESS }];
    const members = [{ addresses: ["10.64.0.2"], isEndpoint: true }];
    const services = [{ serviceId: "svc_a", addresses: ["10.64.1.1"], members }];
    const bridge = (deniesNew: boolean) =>
      interpretFlows(
        compileFlows({
          datapath: "netdev",
          localPorts: [port],
          tunnelPort: TUNNEL,
          networks: [
            {
              networkId: "net_a",
              vni: 4097,
              conntrackZone: 7,
              gateways: [],
              remotePorts,
              services,
              deniesNew,
            },
          ],
        }),
      );
    const { protocols, fields } = packet(2, port.mac, "10.64.0.1", SERVICE_MAC);
    const frame = { protocols, fields: { ...fields, nw_dst: "10.64.1.1" } };
    expect(bridge(false)(frame).outputs).toHaveLength(1);
    expect(bridge(true)(frame).outputs).toEqual([]);
    const open = { ...frame, connection: "est" as const, translatedTo: "10.64.0.2" };
    expect(bridge(true)(open).outputs).toHaveLength(1);
  });
});
