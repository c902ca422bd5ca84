import { assert } from "../../lib/assert.ts";
import { formatAddress, parseAddress } from "../../lib/ip/ip-address.ts";
import type { HostRule } from "../../contracts/network-driver/host-rule.ts";
import { addQueryGateway, isQueryAddress } from "../../contracts/network-driver/query-address.ts";
import type { PublishedPort } from "../../contracts/network-driver/published-ports.ts";
import { compileNameQueries } from "./compile-name-queries.ts";
import { compileConstantFlows } from "./constant-flows.ts";
import {
  compileGateway,
  type FlowGateway,
  limitGatewayPorts,
  setTunnel,
} from "./compile-gateway.ts";
import { compilePublished } from "./compile-published.ts";
import { compileRules, type TrustedPort } from "./compile-rules.ts";
import { compileServices, type FlowService } from "./compile-services.ts";
import { compileUplink } from "./compile-uplink.ts";
import { checkMac, familyOf, listPortAddresses, requestFor } from "./flow-addresses.ts";
import {
  compareFlows,
  type Datapath,
  type Flow,
  flowRegisters as register,
  flowTables as table,
  GATEWAY_MAC,
  load,
  toNetworkFlow,
} from "./flow.ts";
import { numberServices, type ServiceNumbers } from "./service-numbers.ts";

/** An interface of a set on this host. */
export interface LocalPort {
  /** The number of the port in the bridge. */
  ofPort: number;
  networkId: string;
  mac: string;
  /** Single addresses in canonical form, without a prefix length. */
  addresses: readonly string[];
  publishedPorts?: readonly PublishedPort[] | undefined;
}

/** An interface of a set on another host. */
export interface RemotePort {
  mac: string;
  addresses: readonly string[];
  /** The address of that host in the tunnel network. */
  tunnelAddress: string;
  /** For the address of a gateway, which no set has: the ports of sets to which it leads. */
  trustedPorts?: readonly TrustedPort[] | undefined;
}

export interface FlowNetwork {
  networkId: string;
  /** The VXLAN network identifier: unique in the fleet, from 1 to 2^24 - 1. */
  vni: number;
  /** Unique on this host (see assignConntrackZones). */
  conntrackZone: number;
  /** Another zone, if the network has a `gateway`. */
  gatewayZone?: number | undefined;
  gateways: readonly string[];
  /** The services of the network that other machines reach at ports of this host. */
  gateway?: FlowGateway | undefined;
  remotePorts: readonly RemotePort[];
  /** The firewall rules, in any order. */
  rules?: readonly HostRule[];
  /** The services with sets in the network, on any host. */
  services?: readonly FlowService[];
  /** The request to end connections that the rules have: see HostNetwork. */
  endConnectionsCount?: number;
  /** True if the rules of the network are unknown. Open connections continue. */
  deniesNew?: boolean;
}

export interface FlowInput {
  /**
   * The datapath decides who answers neighbor discovery. In the netdev datapath, the bridge does.
   * In the kernel's, the bridge sends a solicitation to the one port with the address, and that
   * port answers. The kernel's datapath refuses to change the options of neighbor discovery, and
   * one rejected flow makes Open vSwitch reject the whole bundle.
   */
  datapath: Datapath;
  localPorts: readonly LocalPort[];
  networks: readonly FlowNetwork[];
  /** The number of the tunnel's port. Without it, the host reaches no remote port. */
  tunnelPort?: number | undefined;
  /** Without it, sets reach no external address. */
  uplink?: FlowUplink | undefined;
}

/** The port through which packets leave the networks of the host, to its routing. */
export interface FlowUplink {
  ofPort: number;
  /**
   * The first of 65,536 IPv4 addresses. The packets of a network leave with this address plus its
   * conntrack zone as source. So answers find their network, even if networks have equal addresses.
   */
  firstAddress: string;
}

/**
 * Compiles the flows of a host. Equal inputs in any order give equal flows. Their number is linear
 * in ports, addresses and rules.
 *
 * A local port whose network is missing neither sends nor receives, because its rules are unknown.
 * If several ports of a network have the same address or MAC address, only one of them receives. A
 * local port precedes a remote one, and a higher port number a lower one, because it is newer.
 */
export function compileFlows({
  datapath,
  localPorts,
  networks,
  tunnelPort,
  uplink,
}: FlowInput): Flow[] {
  checkUnique("network", networks, ({ networkId }) => networkId);
  checkUnique("VNI", networks, ({ vni }) => vni);
  checkUnique("conntrack zone", networks, ({ conntrackZone }) => conntrackZone);
  checkUnique("port", localPorts, ({ ofPort }) => ofPort);
  const portsByNetwork = new Map<string, LocalPort[]>();
  for (const port of localPorts.toSorted((a, b) => b.ofPort - a.ofPort)) {
    const ports = portsByNetwork.get(port.networkId);
    if (ports) ports.push(port);
    else portsByNetwork.set(port.networkId, [port]);
  }
  const forwardsDiscovery = datapath === "system";
  const flows = compileConstantFlows(datapath);
  const gatewayPorts = limitGatewayPorts(networks);
  for (const given of networks) {
    const network = { ...given, gateways: addQueryGateway(given.gateways) };
    const local = portsByNetwork.get(network.networkId) ?? [];
    const remote = network.remotePorts.toSorted(compareRemotePorts);
    const numbers = numberServices(network.services ?? []);
    for (const port of local) {
      flows.push(...compileSender(network, port, numbers));
      if (forwardsDiscovery) flows.push(...compileDiscovery(network, port));
    }
    flows.push(...compileNeighbors(network, [...local, ...remote], forwardsDiscovery));
    flows.push(
      ...compileRules(network, {
        local: local.map(withAllAddresses),
        remote: remote.map((port) => ({ ...port, ...withAllAddresses(port) })),
        published: network.gateway?.ports.map(({ serviceId }) => serviceId) ?? [],
        numbers,
        seesFragments: datapath === "netdev",
      }),
      ...compileReceivers(network, { local, remote, tunnelPort, numbers }),
    );
    const reachable = tunnelPort === undefined ? [] : remote;
    flows.push(...compileServices(network, { local, remote: reachable, forwardsDiscovery }));
    if (tunnelPort !== undefined)
      flows.push(...compileTunnel(network, { tunnelPort, forwardsDiscovery }));
    const { gateway, gatewayZone } = network;
    if (!uplink || (local.length === 0 && !gateway)) continue;
    const own = uplinkAddress(uplink.firstAddress, network.conntrackZone);
    const uplinkEnd = { ofPort: uplink.ofPort, address: own };
    flows.push(...compileUplink(network, local, uplinkEnd));
    if (local.length > 0) {
      const server = nameServerAddress(uplink.firstAddress);
      flows.push(...compilePublished(network, local, own));
      flows.push(...compileNameQueries(network, local, server));
    }
    if (gateway && gatewayZone !== undefined)
      flows.push(
        ...compileGateway({
          network: { ...network, gatewayZone },
          gateway: { ...gateway, ports: gatewayPorts.get(network.networkId) ?? [] },
          local,
          remote: reachable,
          numbers,
          tunnelPort,
          uplink: uplinkEnd,
        }),
      );
  }
  return flows.sort(compareFlows);
}

/**
 * A port sends only from its own MAC address and addresses, and from a query address only queries.
 * It gets no answer about these.
 */
function compileSender(
  network: FlowNetwork,
  { ofPort, mac, addresses }: LocalPort,
  numbers: ServiceNumbers,
): Flow[] {
  const sender = `in_port=${ofPort},dl_src=${checkMac(mac)}`;
  const own = `${register.network}=${network.vni},in_port=${ofPort}`;
  const service = load(numbers.ofAddresses(addresses), register.fromService);
  const accept = `${loadNetwork(network)},${service},goto_table:${table.neighbors}`;
  return listPortAddresses(mac, addresses).flatMap((address) => {
    const requestOwn = `${requestFor(address)},${own}`;
    const packets = isQueryAddress(address)
      ? listQueries(network).map((query) => `${query},${sender},nw_src=${address}`)
      : [`ip,${sender},nw_src=${address}`];
    const matches =
      familyOf(address) === 4
        ? [...packets, `arp,${sender},arp_sha=${mac},arp_spa=${address}`]
        : [`ipv6,${sender},ipv6_src=${address}`];
    return [
      ...matches.map((match) => toNetworkFlow(network, table.classify, 100, match, accept)),
      // The kernel would treat an answer for the port's own address as a duplicate address.
      toNetworkFlow(network, table.neighbors, 110, requestOwn, "drop"),
    ];
  });
}

/** Matches the DNS queries to the gateway of a network. */
function listQueries({ gateways }: FlowNetwork): string[] {
  return gateways
    .filter((address) => familyOf(address) === 4)
    .flatMap((gateway) =>
      ["udp", "tcp"].map((protocol) => `${protocol},nw_dst=${gateway},tp_dst=53`),
    );
}

/**
 * A port sends solicitations, and advertisements of itself. Their option must have the MAC address
 * of the port, or be missing.
 */
function compileDiscovery(network: FlowNetwork, { ofPort, mac, addresses }: LocalPort): Flow[] {
  const load = loadNetwork(network);
  const sender = `in_port=${ofPort},dl_src=${mac}`;
  return listPortAddresses(mac, addresses)
    .filter((address) => familyOf(address) === 6)
    .flatMap((address) =>
      [mac, "00:00:00:00:00:00"].flatMap((option) => {
        const source = `${sender},ipv6_src=${address}`;
        const request = `icmp6,icmpv6_type=135,${source},nd_sll=${option}`;
        const advertisement = `icmp6,icmpv6_type=136,${source},nd_target=${address},nd_tll=${option}`;
        return [
          toNetworkFlow(
            network,
            table.classify,
            215,
            request,
            `${load},goto_table:${table.neighbors}`,
          ),
          toNetworkFlow(
            network,
            table.classify,
            215,
            advertisement,
            `${load},goto_table:${table.forward}`,
          ),
        ];
      }),
    );
}

/**
 * The bridge answers for each known address once, with the MAC address of its port. If it forwards
 * neighbor discovery, it sends the request to that port instead, and a gateway has no answer.
 */
function compileNeighbors(
  network: FlowNetwork,
  ports: readonly { mac: string; addresses: readonly string[] }[],
  forwardsDiscovery: boolean,
): Flow[] {
  const macs = new Map<string, string>();
  const gateways = { mac: GATEWAY_MAC, addresses: network.gateways };
  for (const { mac, addresses } of [...ports, gateways])
    for (const address of listPortAddresses(mac, addresses))
      if (!macs.has(address)) macs.set(address, checkMac(mac));
  return [...macs].map(([address, mac]) => {
    const match = `${requestFor(address)},${register.network}=${network.vni}`;
    const actions =
      forwardsDiscovery && familyOf(address) === 6
        ? `set_field:${mac}->eth_dst,goto_table:${table.forward}`
        : `move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],set_field:${mac}->eth_src,goto_table:${table.answer}`;
    return toNetworkFlow(network, table.neighbors, 100, match, actions);
  });
}

/** Each MAC address leads to one local port or, only for frames of local ports, to one host. */
function compileReceivers(
  network: FlowNetwork,
  {
    local,
    remote,
    tunnelPort,
    numbers,
  }: { local: readonly LocalPort[]; remote: readonly RemotePort[] } & {
    tunnelPort: number | undefined;
    numbers: ServiceNumbers;
  },
): Flow[] {
  const flows = new Map<string, Flow>();
  const add = (mac: string, origin: string, actions: string) => {
    if (flows.has(mac)) return;
    const match = `${register.network}=${network.vni}${origin},dl_dst=${checkMac(mac)}`;
    flows.set(mac, toNetworkFlow(network, table.forward, 100, match, actions));
  };
  for (const { mac, ofPort, addresses } of local) {
    const service = load(numbers.ofAddresses(addresses), register.toService);
    add(mac, "", `${load(ofPort, register.port)},${service},goto_table:${table.ingress}`);
  }
  if (tunnelPort === undefined) return [...flows.values()];
  for (const { mac, tunnelAddress } of remote) {
    const actions = [
      setTunnel(network.vni, tunnelAddress),
      load(tunnelPort, register.port),
      `goto_table:${table.output}`,
    ];
    add(mac, `,${register.isRemote}=0`, actions.join(","));
  }
  return [...flows.values()];
}

/** Accepts packets of a network from the tunnel if a host of its remote ports sent them. No ARP. */
function compileTunnel(
  network: FlowNetwork,
  { tunnelPort, forwardsDiscovery }: { tunnelPort: number; forwardsDiscovery: boolean },
): Flow[] {
  const hosts = new Set(network.remotePorts.map(({ tunnelAddress }) => tunnelAddress));
  const accept = `${loadNetwork(network)},${load(1, register.isRemote)}`;
  const track = `${accept},ct(table=${table.forward},zone=${network.conntrackZone},nat)`;
  return [...hosts].flatMap((host) => {
    const source = familyOf(host) === 4 ? "tun_src" : "tun_ipv6_src";
    const from = `in_port=${tunnelPort},tun_id=${network.vni},${source}=${host}`;
    const packets = ["ip", "ipv6"].map((protocol) =>
      toNetworkFlow(network, table.classify, 100, `${protocol},${from}`, track),
    );
    if (!forwardsDiscovery) return packets;
    const discovery = [135, 136].map((type) => {
      const match = `icmp6,icmpv6_type=${type},${from}`;
      return toNetworkFlow(
        network,
        table.classify,
        215,
        match,
        `${accept},goto_table:${table.forward}`,
      );
    });
    return [...packets, ...discovery];
  });
}

/** The address of the host's name server at the uplink. No network has this conntrack zone. */
export function nameServerAddress(firstAddress: string): string {
  return uplinkAddress(firstAddress, 65_535);
}

/** Returns the source address of a network's packets to external addresses: see FlowUplink. */
export function uplinkAddress(firstAddress: string, conntrackZone: number): string {
  const first = parseAddress(firstAddress);
  assert(first?.family === 4, "the uplink has IPv4 addresses");
  return formatAddress({ family: 4, value: first.value + BigInt(conntrackZone) });
}

/** The port with all addresses that it may use. */
function withAllAddresses({ mac, addresses }: { mac: string; addresses: readonly string[] }) {
  return { addresses: listPortAddresses(mac, addresses) };
}

function loadNetwork({ vni, conntrackZone }: FlowNetwork): string {
  return `${load(vni, register.network)},${load(conntrackZone, register.zone)}`;
}

function compareRemotePorts(a: RemotePort, b: RemotePort): number {
  const [left, right] = [a, b].map(({ mac, tunnelAddress }) => `${mac} ${tunnelAddress}`);
  return left === right ? 0 : String(left) < String(right) ? -1 : 1;
}

function checkUnique<T>(name: string, items: readonly T[], keyOf: (item: T) => unknown): void {
  assert(new Set(items.map(keyOf)).size === items.length, `two items have the same ${name}`);
}
