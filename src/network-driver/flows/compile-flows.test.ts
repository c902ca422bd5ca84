import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type FlowFrame, interpretFlows } from "../../../test/support/ovs/flow-interpreter.ts";
import {
  isIpv6,
  type Member,
  member,
  ownAddresses,
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
import { compileConstantFlows } from "./constant-flows.ts";
import { type Datapath, GATEWAY_MAC, renderFlow, UPLINK_MAC } from "./flow.ts";

const TUNNEL = 1;
const UPLINK = 90;
const GATEWAY = "10.64.255.254";
const hosts = ["172.31.0.2", "172.31.0.3"];

const membersArbitrary = fc.uniqueArray(
  fc.record({
    number: fc.integer({ min: 1, max: 12 }),
    families: fc.constantFrom(4, 6, 46),
    place: fc.constantFrom("local", ...hosts),
  }),
  { selector: ({ number }) => number, maxLength: 8 },
);

/** A host with up to three networks, whose members have overlapping addresses. */
const inputArbitrary = fc
  .record({
    datapath: fc.constantFrom<Datapath>("system", "netdev"),
    memberships: fc.array(membersArbitrary, { minLength: 1, maxLength: 3 }),
    hasUplink: fc.boolean(),
  })
  .map(({ datapath, memberships, hasUplink }) => {
    const localPorts: LocalPort[] = [];
    const networks = memberships.map((members, index): FlowNetwork => {
      const networkId = `net_${index}`;
      const remotePorts: RemotePort[] = [];
      for (const { number, families, place } of members) {
        const ofPort = TUNNEL + localPorts.length + 1;
        if (place === "local") localPorts.push({ ...member(number, families), networkId, ofPort });
        else remotePorts.push({ ...member(number, families), tunnelAddress: place });
      }
      const vni = 4097 + index;
      return { networkId, vni, conntrackZone: 7 + index, gateways: [GATEWAY], remotePorts };
    });
    const uplink = hasUplink ? { ofPort: UPLINK, firstAddress: "198.19.0.0" } : undefined;
    return { datapath, localPorts, networks, tunnelPort: TUNNEL, uplink };
  });

describe("the compiled flows", () => {
  const check = (property: (input: FlowInput & { networks: FlowNetwork[] }) => void) =>
    fc.assert(fc.property(inputArbitrary, property), { numRuns: 50 });
  const findNetwork = (input: FlowInput, networkId: string): FlowNetwork => {
    const network = input.networks.find((one) => one.networkId === networkId);
    if (!network) throw new Error(`no ${networkId}`);
    return network;
  };

  it("are equal for equal inputs in any order", () => {
    check((input) => {
      const random = seededRandom(1);
      const shuffle = <T>(items: readonly T[]) => items.toSorted(() => random() - 0.5);
      const other = {
        ...input,
        localPorts: shuffle(input.localPorts),
        networks: shuffle(input.networks).map((network) => ({
          ...network,
          remotePorts: shuffle(network.remotePorts),
        })),
      };
      expect(compileFlows(other).map(renderFlow)).toEqual(compileFlows(input).map(renderFlow));
    });
  });

  it("are distinct, and linear in ports and addresses", () => {
    check((input) => {
      const flows = compileFlows(input);
      const keys = flows.map(({ table, priority, match }) => `${table} ${priority} ${match}`);
      expect(new Set(keys).size).toBe(flows.length);
      const local = input.localPorts;
      const remote = input.networks.flatMap(({ remotePorts }) => remotePorts);
      const count = (members: readonly Member[]) => members.flatMap(ownAddresses).length;
      const perNetwork = 2 + 1 + 4 * hosts.length + 8;
      expect(flows.length).toBeLessThanOrEqual(
        compileConstantFlows(input.datapath).length +
          perNetwork * input.networks.length +
          (local.length + 8 * count(local)) +
          (remote.length + count(remote)),
      );
    });
  });

  it("drop each frame whose port may not send from its MAC address and address", () => {
    check((input) => {
      const bridge = interpretFlows(compileFlows(input));
      const members = [1, 2, 12].map((number) => member(number, 46));
      for (const port of input.localPorts) {
        for (const claimed of [...members, ...input.localPorts])
          for (const address of [...ownAddresses(claimed), ...port.addresses, "0.0.0.0", "::"]) {
            const isOwn = ownAddresses(port).includes(address);
            for (const mac of [port.mac, claimed.mac]) {
              if (mac === port.mac && isOwn) continue;
              for (const { mac: to } of input.localPorts)
                expect(bridge(packet(port.ofPort, mac, address, to)).outputs).toEqual([]);
              const neighbor = isIpv6(address) ? "fd00::3" : "10.64.0.3";
              expect(bridge(request(port.ofPort, mac, address, neighbor)).outputs).toEqual([]);
            }
          }
        // ARP has a second sender, besides that of the frame.
        const [address] = port.addresses;
        if (address === undefined || isIpv6(address)) continue;
        const honest = request(port.ofPort, port.mac, address, GATEWAY);
        const fields = { ...honest.fields, arp_sha: "0a:00:0a:40:00:ff" };
        expect(bridge({ ...honest, fields }).outputs).toEqual([]);
      }
    });
  });

  it("drop frames of routers, DHCP servers, unknown ports, and tagged frames", () => {
    check((input) => {
      const bridge = interpretFlows(compileFlows(input));
      for (const port of input.localPorts)
        for (const address of ownAddresses(port))
          for (const { mac } of input.localPorts) {
            const honest = packet(port.ofPort, port.mac, address, mac);
            const harmful: Record<string, string>[] = isIpv6(address)
              ? [{ tp_dst: "546" }, { vlan_tci: "0x1000" }]
              : [{ tp_dst: "68" }, { vlan_tci: "0x1000" }, { in_port: "99" }];
            for (const change of harmful)
              expect(
                bridge({ ...honest, fields: { ...honest.fields, ...change } }).outputs,
              ).toEqual([]);
            for (const icmpv6_type of isIpv6(address) ? ["134", "136", "137"] : []) {
              const fields = { ...honest.fields, icmpv6_type };
              expect(bridge({ protocols: ["ipv6", "icmp6"], fields }).outputs).toEqual([]);
            }
          }
    });
  });

  it("pass neighbor discovery only with honest addresses, in the kernel's datapath", () => {
    check((input) => {
      const bridge = interpretFlows(compileFlows(input));
      const forwardsDiscovery = input.datapath === "system";
      for (const port of input.localPorts)
        for (const address of ownAddresses(port).filter(isIpv6)) {
          const to = input.localPorts.find(
            (one) => one.networkId === port.networkId && one !== port,
          );
          if (!to) continue;
          const frame = packet(port.ofPort, port.mac, address, to.mac);
          const advertise = (change: Record<string, string>) => {
            const nd = { icmpv6_type: "136", nd_target: address, nd_tll: port.mac };
            const fields = { ...frame.fields, ...nd, ...change };
            return bridge({ protocols: ["ipv6", "icmp6"], fields }).outputs;
          };
          const delivered = forwardsDiscovery ? [{ port: String(to.ofPort) }] : [];
          expect(advertise({})).toMatchObject(delivered);
          expect(advertise({ nd_tll: "00:00:00:00:00:00" })).toMatchObject(delivered);
          expect(advertise({ nd_tll: to.mac })).toEqual([]);
          expect(advertise({ nd_target: "fd00::63" })).toEqual([]);
          expect(advertise({ ipv6_src: "fd00::63" })).toEqual([]);
          const known = ownAddresses(to).find(isIpv6);
          if (known === undefined || !forwardsDiscovery) continue;
          const solicitation = request(port.ofPort, port.mac, address, known);
          const fields = { ...solicitation.fields, nd_sll: to.mac };
          expect(bridge(solicitation).outputs).toHaveLength(1);
          expect(bridge({ ...solicitation, fields }).outputs).toEqual([]);
        }
    });
  });

  it("answer for each known address exactly once, and for no other address", () => {
    check((input) => {
      const bridge = interpretFlows(compileFlows(input));
      for (const port of input.localPorts) {
        const network = findNetwork(input, port.networkId);
        const others = input.localPorts.filter(
          ({ networkId, ofPort }) => networkId === port.networkId && ofPort !== port.ofPort,
        );
        const known = new Map(
          [...others, ...network.remotePorts, { mac: GATEWAY_MAC, addresses: [GATEWAY] }].flatMap(
            (one) => ownAddresses(one).map((address) => [address, one.mac] as const),
          ),
        );
        const targets = Array.from({ length: 13 }, (_, index) =>
          ownAddresses(member(index + 1, 46)),
        );
        for (const target of [...targets.flat(), GATEWAY]) {
          const address = ownAddresses(port).find((own) => isIpv6(own) === isIpv6(target));
          if (address === undefined) continue;
          const { outputs } = bridge(request(port.ofPort, port.mac, address, target));
          const mac = known.get(target);
          const answer = isIpv6(target)
            ? { icmpv6_type: "136", ipv6_src: target, ipv6_dst: address, nd_tll: mac }
            : { arp_op: "2", arp_sha: mac, arp_spa: target, arp_tha: port.mac, arp_tpa: address };
          if (mac === undefined) expect(outputs).toEqual([]);
          else if (isIpv6(target) && input.datapath === "system") {
            const owner = others.find((one) => one.mac === mac);
            const place = owner
              ? { port: String(owner.ofPort) }
              : { port: String(TUNNEL), fields: { tun_id: String(network.vni) } };
            expect(outputs).toMatchObject([place]);
            expect(outputs).toMatchObject([{ fields: { dl_dst: mac, nd_target: target } }]);
          } else {
            const fields = { ...answer, dl_src: mac, dl_dst: port.mac };
            expect(outputs).toHaveLength(1);
            expect(outputs).toMatchObject([{ port: "in_port", fields }]);
          }
        }
      }
    });
  });

  it("send each packet to the one port with its destination, in its own network", () => {
    check((input) => {
      const bridge = interpretFlows(compileFlows(input));
      for (const port of input.localPorts) {
        const network = findNetwork(input, port.networkId);
        const address = port.addresses[0] ?? "";
        for (let number = 1; number <= 13; number += 1) {
          const { mac } = member(number, 46);
          const local = input.localPorts.find(
            (one) => one.networkId === port.networkId && one.mac === mac,
          );
          if (local === port) continue;
          const remote = network.remotePorts.find((one) => one.mac === mac);
          const { outputs, ...zones } = bridge(packet(port.ofPort, port.mac, address, mac));
          if (local) expect(outputs).toMatchObject([{ port: String(local.ofPort) }]);
          else if (remote)
            expect(outputs).toMatchObject([
              {
                port: String(TUNNEL),
                fields: { tun_id: String(network.vni), tun_dst: remote.tunnelAddress },
              },
            ]);
          else expect(outputs).toEqual([]);
          const zone = String(network.conntrackZone);
          expect(zones.zonesTracked).toEqual([zone]);
          expect(zones.zonesCommitted).toEqual(outputs.length === 0 ? [] : [zone]);
        }
        for (const to of ["ff:ff:ff:ff:ff:ff", "33:33:00:00:00:01", UPLINK_MAC])
          expect(bridge(packet(port.ofPort, port.mac, address, to)).outputs).toEqual([]);
        if (!input.uplink)
          expect(bridge(packet(port.ofPort, port.mac, address, GATEWAY_MAC)).outputs).toEqual([]);
      }
    });
  });

  it("commit a new connection once, and drop the packets of invalid ones", () => {
    check((input) => {
      const bridge = interpretFlows(compileFlows(input));
      for (const from of input.localPorts)
        for (const to of input.localPorts) {
          if (from === to || from.networkId !== to.networkId) continue;
          const frame = packet(from.ofPort, from.mac, from.addresses[0] ?? "", to.mac);
          const established = bridge({ ...frame, connection: "est" });
          expect(established.outputs).toHaveLength(1);
          expect(established.zonesCommitted).toEqual([]);
          expect(bridge({ ...frame, connection: "inv" }).outputs).toEqual([]);
        }
    });
  });

  it("deliver tunneled packets of known networks and hosts to local ports alone", () => {
    check((input) => {
      const bridge = interpretFlows(compileFlows(input));
      for (const network of input.networks)
        for (const host of [...hosts, "172.31.0.9"])
          for (let number = 1; number <= 12; number += 1) {
            const { mac, addresses } = member(number, 46);
            const isKnown = network.remotePorts.some(({ tunnelAddress }) => tunnelAddress === host);
            const local = input.localPorts.find(
              (one) => one.networkId === network.networkId && one.mac === mac,
            );
            for (const address of addresses) {
              const frame = packet(TUNNEL, "0a:00:0a:40:00:0d", address, mac);
              expect(bridge(tunneled(frame, network.vni, host))).toMatchObject({
                outputs: isKnown && local ? [{ port: String(local.ofPort) }] : [],
                returns: 0,
              });
              expect(bridge(tunneled(frame, 9_999, host)).outputs).toEqual([]);
              expect(
                bridge(tunneled(request(TUNNEL, mac, address, address), network.vni, host)).outputs,
              ).toEqual([]);
            }
          }
    });
  });
});

describe("the flows of the uplink", () => {
  const check = (property: (input: FlowInput & { networks: FlowNetwork[] }) => void) =>
    fc.assert(
      fc.property(inputArbitrary, (input) => {
        property({ ...input, uplink: { ofPort: UPLINK, firstAddress: "198.19.0.0" } });
      }),
      { numRuns: 50 },
    );
  const sourceOf = ({ conntrackZone }: FlowNetwork) => `198.19.0.${conntrackZone}`;
  const outward = (port: LocalPort, address: string, nw_dst: string): FlowFrame => {
    const { protocols, fields } = packet(port.ofPort, port.mac, address, GATEWAY_MAC);
    return { protocols, fields: { ...fields, nw_dst } };
  };

  it("send packets to the gateway out with the network's own address", () => {
    check((input) => {
      const bridge = interpretFlows(compileFlows(input));
      for (const network of input.networks)
        for (const port of input.localPorts.filter((one) => one.networkId === network.networkId))
          for (const address of port.addresses) {
            const result = bridge(outward(port, address, "203.0.113.9"));
            if (isIpv6(address)) expect(result.outputs).toEqual([]);
            else
              expect(result).toMatchObject({
                outputs: [
                  {
                    port: String(UPLINK),
                    fields: { nw_src: sourceOf(network), dl_src: GATEWAY_MAC, dl_dst: UPLINK_MAC },
                  },
                ],
                zonesCommitted: [String(network.conntrackZone)],
              });
            for (const denied of ["169.254.0.0", "100.100.100.200", GATEWAY])
              expect(bridge(outward(port, address, denied)).outputs).toEqual([]);
            const { protocols, fields } = outward(port, address, "169.254.169.254");
            const question = { protocols, fields: { ...fields, tp_dst: "53" } };
            expect(bridge(question).outputs).toHaveLength(isIpv6(address) ? 0 : 1);
          }
    });
  });

  it("send nothing out that another host has sent", () => {
    check((input) => {
      const bridge = interpretFlows(compileFlows(input));
      for (const network of input.networks)
        for (const { tunnelAddress, mac, addresses } of network.remotePorts)
          for (const address of addresses) {
            const frame = packet(TUNNEL, mac, address, GATEWAY_MAC);
            expect(bridge(tunneled(frame, network.vni, tunnelAddress)).outputs).toEqual([]);
          }
    });
  });

  it("let answers in to the port of their network alone, and no new connection", () => {
    check((input) => {
      const bridge = interpretFlows(compileFlows(input));
      for (const network of input.networks)
        for (let number = 1; number <= 12; number += 1) {
          const [address = ""] = member(number, 4).addresses;
          const answer = (connection: "new" | "est" | "inv"): FlowFrame => {
            const { protocols, fields } = packet(UPLINK, UPLINK_MAC, "203.0.113.9", GATEWAY_MAC);
            const nw_dst = sourceOf(network);
            return { protocols, fields: { ...fields, nw_dst }, connection, translatedTo: address };
          };
          const receiver = input.localPorts.find(
            (one) => one.networkId === network.networkId && one.addresses.includes(address),
          );
          expect(bridge(answer("est")).outputs).toMatchObject(
            receiver ? [{ port: String(receiver.ofPort), fields: { dl_dst: receiver.mac } }] : [],
          );
          expect(bridge(answer("new")).outputs).toEqual([]);
          expect(bridge(answer("inv")).outputs).toEqual([]);
        }
    });
  });
});

describe("the flow compiler", () => {
  const datapath = "netdev";
  const network = {
    networkId: "net_a",
    vni: 4097,
    conntrackZone: 7,
    gateways: [],
    remotePorts: [],
  };
  const port = { ...member(1, 46), networkId: "net_a", ofPort: 2 };

  it("gives no flow to a port whose network is unknown", () => {
    const flows = compileFlows({ datapath, localPorts: [port], networks: [] });
    const constantFlows = compileConstantFlows(datapath);
    expect(flows).toHaveLength(constantFlows.length);
    expect(flows).toEqual(expect.arrayContaining(constantFlows));
  });

  it("prefers the newer of two ports with one address, and a local one to a remote one", () => {
    const newer = { ...port, ofPort: 9 };
    const remotePorts = [
      { ...member(1, 46), tunnelAddress: "172.31.0.2" },
      { ...member(1, 46), mac: "0a:00:0a:40:00:aa", tunnelAddress: "172.31.0.3" },
    ];
    const localPorts = [port, newer, { ...member(2, 46), networkId: "net_a", ofPort: 3 }];
    const networks = [{ ...network, remotePorts }];
    const bridge = interpretFlows(
      compileFlows({ datapath, localPorts, networks, tunnelPort: TUNNEL }),
    );
    const [output, ...others] = bridge(packet(3, member(2, 46).mac, "10.64.0.2", port.mac)).outputs;
    expect(output?.port).toBe("9");
    expect(others).toEqual([]);
    const answers = bridge(request(3, member(2, 46).mac, "10.64.0.2", "10.64.0.1")).outputs;
    expect(answers).toMatchObject([{ fields: { arp_sha: port.mac } }]);
  });

  it.each(["10.64.0.0/16", "10.64.0.1,actions=flood", "fd00::1\n", "FD00::1", ""])(
    "refuses the address %j, which would match other senders",
    (address) => {
      const localPorts = [{ ...port, addresses: [address] }];
      expect(() => compileFlows({ datapath, localPorts, networks: [network] })).toThrow(
        "not a canonical",
      );
    },
  );

  it.each(["ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "0A:00:00:00:00:01", "0a:00"])(
    "refuses the MAC address %s",
    (mac) => {
      const localPorts = [{ ...port, mac }];
      expect(() => compileFlows({ datapath, localPorts, networks: [network] })).toThrow(
        "not a unicast",
      );
    },
  );

  it("refuses two networks with the same VNI or conntrack zone", () => {
    for (const change of [{ vni: 4098 }, { conntrackZone: 8 }]) {
      const networks = [network, { ...network, networkId: "net_b", ...change }];
      expect(() => compileFlows({ datapath, localPorts: [], networks })).toThrow("the same");
    }
  });
});
