import { SERVICE_MAC } from "../../contracts/common/mac-address.ts";
import { parseAddress } from "../../lib/ip/ip-address.ts";
import { assert } from "../../lib/assert.ts";
import { familyOf, requestFor } from "./flow-addresses.ts";
import {
  type Flow,
  flowRegisters as register,
  flowTables as table,
  load,
  portInRegister,
  toNetworkFlow,
  zoneInRegister as zone,
} from "./flow.ts";

/** A service with sets in the network. */
export interface FlowService {
  serviceId: string;
  /** The service address: at most one of each family. Without it, the service has no flows. */
  addresses: readonly string[];
  members: readonly ServiceMember[];
}

interface ServiceMember {
  setId?: string | undefined;
  addresses: readonly string[];
  /** True if new connections may go to the set. Open ones continue in either case. */
  isEndpoint: boolean;
}

interface FlowPort {
  mac: string;
  addresses: readonly string[];
}

export interface ServiceInput {
  /** The ports of the network. The first port with an address has it. */
  local: readonly FlowPort[];
  /** Only those that this host reaches. */
  remote: readonly FlowPort[];
  /** True in the kernel's datapath, in which the bridge cannot answer neighbor discovery. */
  forwardsDiscovery: boolean;
}

interface FlowNetworkServices {
  vni: number;
  gateways: readonly string[];
  services?: readonly FlowService[];
}

/** A set of a service, by its address of the service address's family. */
interface Backend {
  address: string;
  mac: string;
  isEndpoint: boolean;
}

/**
 * Compiles the flows of the service addresses of a network. Their number is linear in service
 * addresses, addresses of sets, and local addresses.
 *
 * The caller's host chooses a set for a new connection. It gives the packet the address of the set
 * before the tables `egress` and `ingress`, so rules see the sets. Only the table `output` commits
 * the connection, from the service address to the set. Conntrack then translates all packets of the
 * connection, whatever the endpoints are.
 *
 * Nothing answers at a service address without a reachable endpoint: new connections to it are
 * dropped. If a port or a gateway has the address of a service, the service has no flows.
 */
export function compileServices(network: FlowNetworkServices, input: ServiceInput): Flow[] {
  const { services = [] } = network;
  if (services.every(({ addresses }) => addresses.length === 0)) return [];
  const macs = new Map<string, string>();
  for (const { mac, addresses } of [...input.local, ...input.remote])
    for (const address of addresses) if (!macs.has(address)) macs.set(address, mac);
  const taken = new Set([...macs.keys(), ...network.gateways]);
  const own = new Set(input.local.flatMap(({ addresses }) => addresses));
  const families = new Set<4 | 6>();
  const backendsTaken = new Set<string>();
  const flows: Flow[] = [];
  for (const service of services.toSorted(compareServices))
    for (const address of service.addresses) {
      if (taken.has(address)) continue;
      taken.add(address);
      const family = familyOf(address);
      families.add(family);
      const backends = listBackends(service, family, macs).filter((backend) => {
        const isNew = !backendsTaken.has(backend.address);
        backendsTaken.add(backend.address);
        return isNew;
      });
      flows.push(compileNeighbor(network, address, input.forwardsDiscovery));
      flows.push(...compileChoice(network, address, { backends, own }));
      for (const backend of backends) flows.push(...compileBackend(network, address, backend));
    }
  for (const source of own)
    if (families.has(familyOf(source))) flows.push(compileSource(network, source));
  return flows;
}

/** The sets that this host reaches, in the order of their addresses. */
function listBackends(
  { members }: FlowService,
  family: 4 | 6,
  macs: ReadonlyMap<string, string>,
): Backend[] {
  const backends = new Map<string, Backend>();
  for (const { addresses, isEndpoint } of members)
    for (const address of addresses) {
      const mac = macs.get(address);
      if (mac === undefined || familyOf(address) !== family) continue;
      const isEither = isEndpoint || backends.get(address)?.isEndpoint === true;
      backends.set(address, { address, mac, isEndpoint: isEither });
    }
  return [...backends.values()].sort((a, b) => (a.address < b.address ? -1 : 1));
}

/**
 * The bridge answers requests for the service address. In the kernel's datapath, it cannot make an
 * advertisement. There it turns a solicitation for the service address into one that the service
 * address sends to the asking set. Its kernel learns the neighbor from the option of the sender.
 */
function compileNeighbor(
  network: FlowNetworkServices,
  address: string,
  forwardsDiscovery: boolean,
): Flow {
  const match = `${requestFor(address)},${register.network}=${network.vni}`;
  const turn = `move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],set_field:${SERVICE_MAC}->eth_src`;
  const ask = [
    "move:NXM_NX_IPV6_SRC[]->NXM_NX_IPV6_DST[]",
    "move:NXM_NX_IPV6_SRC[]->NXM_NX_ND_TARGET[]",
    `set_field:${address}->ipv6_src`,
    `set_field:${SERVICE_MAC}->nd_sll`,
    "in_port",
  ].join(",");
  const answers = forwardsDiscovery && familyOf(address) === 6 ? ask : `goto_table:${table.answer}`;
  return toNetworkFlow(network, table.neighbors, 100, match, `${turn},${answers}`);
}

/**
 * Chooses the endpoint of a new connection by the hash of its addresses and ports. A set that would
 * reach itself gets the next endpoint: its own kernel would drop an answer from its own address.
 */
function compileChoice(
  network: FlowNetworkServices,
  address: string,
  { backends, own }: { backends: readonly Backend[]; own: ReadonlySet<string> },
): Flow[] {
  const { source } = fieldsOf(address);
  const endpoints = backends.filter(({ isEndpoint }) => isEndpoint);
  const toService = matchDestination(network, address);
  const opens = `ct_state=+trk+new,ct_label=0x0,${toService}`;
  const count = endpoints.length;
  const choice = `NXM_NX_${register.choice.toUpperCase()}[]`;
  const choose = `multipath(symmetric_l3l4+udp,0,modulo_n,${count},0,${choice}),goto_table:${table.backend}`;
  return [
    toNetworkFlow(network, table.service, 100, opens, count === 0 ? "drop" : choose),
    ...endpoints.flatMap((endpoint, index) => {
      const chosen = `${toService},${register.choice}=${index}`;
      const flows = [toNetworkFlow(network, table.backend, 100, chosen, addressTo(endpoint))];
      if (!own.has(endpoint.address)) return flows;
      const next = endpoints[(index + 1) % count];
      const actions = next && next !== endpoint ? addressTo(next) : "drop";
      const match = `${chosen},${source}=${endpoint.address}`;
      return [...flows, toNetworkFlow(network, table.backend, 110, match, actions)];
    }),
  ];
}

/**
 * The flows of a set, whether new connections go to it or not. In both datapaths, conntrack has
 * translated the packets of connections that the set has answered. Before the first answer, it
 * translates packets only in the netdev datapath. So the label of a connection names its set.
 */
function compileBackend(network: FlowNetworkServices, service: string, backend: Backend): Flow[] {
  const { destination } = fieldsOf(service);
  const { address, mac } = backend;
  const label = labelOf(address);
  const translated = `dl_dst=${SERVICE_MAC},${matchDestination(network, address)}`;
  const repeated = `ct_state=+trk+new,ct_label=${label},${matchDestination(network, service)}`;
  const opens = `ct_state=+trk+new,${register.isToService}=1,${matchDestination(network, address)}`;
  const commit = [
    `set_field:${service}->${destination}`,
    `ct(commit,${zone},nat(dst=${address}),exec(set_field:${label}->ct_label))`,
    `output:${portInRegister}`,
  ].join(",");
  const pass = `set_field:${mac}->eth_dst,resubmit(,${table.egress})`;
  return [
    toNetworkFlow(network, table.service, 90, translated, pass),
    toNetworkFlow(network, table.service, 100, repeated, addressTo(backend)),
    toNetworkFlow(network, table.output, 120, opens, commit),
  ];
}

/**
 * Commits the connections that a local set opens directly with a translation to its own address. It
 * changes the source port only if a connection through a service address has the same ports and the
 * same set. Otherwise the answers of both would be the same to conntrack.
 */
function compileSource(network: FlowNetworkServices, address: string): Flow {
  const { protocol, source } = fieldsOf(address);
  const isLocal = `${register.network}=${network.vni},${register.isRemote}=0`;
  const match = `ct_state=+trk+new,${protocol},${isLocal},${source}=${address}`;
  const actions = `ct(commit,${zone},nat(src=${address})),output:${portInRegister}`;
  return toNetworkFlow(network, table.output, 110, match, actions);
}

/** Addresses the packet to a set and marks it: the table `output` commits its connection. */
function addressTo({ address, mac }: Backend): string {
  const { destination } = fieldsOf(address);
  return [
    `set_field:${address}->${destination}`,
    `set_field:${mac}->eth_dst`,
    load(1, register.isToService),
    `resubmit(,${table.egress})`,
  ].join(",");
}

function matchDestination({ vni }: FlowNetworkServices, address: string): string {
  const { protocol, destination } = fieldsOf(address);
  return `${protocol},${register.network}=${vni},${destination}=${address}`;
}

function fieldsOf(address: string) {
  return familyOf(address) === 4
    ? ({ protocol: "ip", source: "nw_src", destination: "nw_dst" } as const)
    : ({ protocol: "ipv6", source: "ipv6_src", destination: "ipv6_dst" } as const);
}

/** The label of a connection is the address of its set, as a number. */
function labelOf(address: string): string {
  const parsed = parseAddress(address);
  assert(parsed, `not an address: ${JSON.stringify(address)}`);
  return `0x${parsed.value.toString(16)}`;
}

function compareServices(a: FlowService, b: FlowService): number {
  return a.serviceId < b.serviceId ? -1 : a.serviceId > b.serviceId ? 1 : 0;
}
