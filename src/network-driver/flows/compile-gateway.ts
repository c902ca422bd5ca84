import { deriveMac } from "../../contracts/common/mac-address.ts";
import { GATEWAY_TARGETS_MAX } from "../../contracts/network-driver/network-state.ts";
import { assert } from "../../lib/assert.ts";
import { parseAddress } from "../../lib/ip/ip-address.ts";
import type { FlowService } from "./compile-services.ts";
import { familyOf } from "./flow-addresses.ts";
import {
  type Flow,
  flowRegisters as register,
  flowTables as table,
  GATEWAY_MAC,
  load,
  portInRegister,
  toNetworkFlow,
  UPLINK_MAC,
} from "./flow.ts";
import type { ServiceNumbers } from "./service-numbers.ts";

/** The services of a network that other machines reach at ports of this host. */
export interface FlowGateway {
  /** The address of this host in the network: no set has it. */
  address: string;
  ports: readonly FlowGatewayPort[];
}

interface FlowGatewayPort {
  serviceId: string;
  protocol: "tcp" | "udp";
  hostPort: number;
  /** The port of the sets, except those of `exceptions`. */
  port: number;
  /** Sets that have the port at another number, or lack it. */
  exceptions?: readonly { setId: string; port: number | null }[] | undefined;
}

interface LocalSet {
  ofPort: number;
  mac: string;
  addresses: readonly string[];
}

interface RemoteSet {
  mac: string;
  addresses: readonly string[];
  tunnelAddress: string;
}

interface GatewayInput {
  network: {
    vni: number;
    conntrackZone: number;
    /** The zone that has the translations of the sources: see gatewayZoneKey. */
    gatewayZone: number;
    services?: readonly FlowService[];
  };
  gateway: FlowGateway;
  local: readonly LocalSet[];
  /** Empty if this host reaches no other one. */
  remote: readonly RemoteSet[];
  numbers: ServiceNumbers;
  tunnelPort: number | undefined;
  uplink: { ofPort: number; address: string };
}

/** The actions that lead a packet to a set. */
interface Route {
  isRemote: boolean;
  /** Addresses the frame to the set, and the tunnel to its host. */
  frame: string;
  ofPort: number;
}

/** A set of a published service. */
interface Backend extends Route {
  address: string;
  isEndpoint: boolean;
  port: number;
}

/** The key of the second conntrack zone of a network, beside the VNI. No VNI is as large. */
export function gatewayZoneKey(vni: number): number {
  return vni + 2 ** 24;
}

/**
 * Returns the ports of the gateways whose flows are compiled, by network. Their number times that
 * of the sets is bounded by GATEWAY_TARGETS_MAX. The API sends no more. Networks with a lower VNI
 * come first.
 */
export function limitGatewayPorts(
  networks: readonly {
    networkId: string;
    vni: number;
    gateway?: FlowGateway | undefined;
    services?: readonly FlowService[];
  }[],
): Map<string, FlowGatewayPort[]> {
  let left = GATEWAY_TARGETS_MAX;
  const limited = new Map<string, FlowGatewayPort[]>();
  for (const { networkId, gateway, services = [] } of networks.toSorted((a, b) => a.vni - b.vni)) {
    if (!gateway) continue;
    const sizes = new Map(services.map(({ serviceId, members }) => [serviceId, members.length]));
    const ports = gateway.ports.filter(({ serviceId }) => {
      const size = sizes.get(serviceId) ?? 0;
      if (size > left) return false;
      left -= size;
      return true;
    });
    limited.set(networkId, ports);
  }
  return limited;
}

/**
 * Compiles the flows of a gateway: connections from other machines to ports of this host reach sets
 * of a service on any host. Their number is linear in published ports times sets of the service.
 *
 * This host chooses the set of a new connection, and applies the ingress rules with the client's
 * own address. If the set is on another host, packets have the address of the gateway as source,
 * so answers return here. Connection tracking has one translation for each zone. So the zone of the
 * network has that of the destination, and a second zone that of the source.
 */
export function compileGateway(input: GatewayInput): Flow[] {
  const { network, gateway, tunnelPort, uplink } = input;
  const flows = new Map<string, Flow>();
  const add = (tableId: number, priority: number, match: string, actions: string): void => {
    const key = `${tableId} ${priority} ${match}`;
    if (flows.has(key)) return;
    flows.set(key, toNetworkFlow(network, tableId, priority, match, actions));
  };
  const own = `${register.network}=${network.vni}`;
  const routes = listRoutes(input);
  const services = new Map(network.services?.map((service) => [service.serviceId, service]));
  for (const port of gateway.ports) {
    const backends = listBackends(port, services.get(port.serviceId), routes);
    for (const backend of backends) compileBackend(input, port, { backend, add });
    compileChoice(input, port, {
      endpoints: backends.filter(({ isEndpoint }) => isEndpoint),
      add,
    });
  }
  if (tunnelPort === undefined) return [...flows.values()];
  const accept = [
    load(network.vni, register.network),
    load(network.conntrackZone, register.zone),
    load(1, register.isRemote),
    `ct(table=${table.gatewayAnswers},zone=${network.gatewayZone},nat)`,
  ].join(",");
  for (const host of new Set(input.remote.map(({ tunnelAddress }) => tunnelAddress))) {
    const source = familyOf(host) === 4 ? "tun_src" : "tun_ipv6_src";
    const from = `in_port=${tunnelPort},tun_id=${network.vni},${source}=${host}`;
    add(table.classify, 110, `ip,${from},nw_dst=${gateway.address}`, accept);
  }
  const untranslate = `ct(table=${table.gatewayLeave},zone=${network.conntrackZone},nat)`;
  const leave = [
    `set_field:${GATEWAY_MAC}->eth_src`,
    `set_field:${UPLINK_MAC}->eth_dst`,
    `output:${uplink.ofPort}`,
  ].join(",");
  // The address accepts nothing but answers, which both zones know.
  for (const state of ["est", "rel"]) {
    const match = `ip,${own},ct_state=+trk+${state}`;
    add(table.gatewayAnswers, 100, match, untranslate);
    add(table.gatewayLeave, 100, match, leave);
  }
  return [...flows.values()];
}

type AddFlow = (tableId: number, priority: number, match: string, actions: string) => void;

/** Chooses an endpoint for a new connection by the hash of its addresses and ports. */
function compileChoice(
  input: GatewayInput,
  port: FlowGatewayPort,
  { endpoints, add }: { endpoints: readonly Backend[]; add: AddFlow },
): void {
  if (endpoints.length === 0) return;
  const choice = `NXM_NX_${register.choice.toUpperCase()}[]`;
  const choose = `multipath(symmetric_l3l4+udp,0,modulo_n,${endpoints.length},0,${choice})`;
  const actions = `${noteOpening(input, port)},${choose},goto_table:${table.gateway}`;
  add(table.inbound, 119, matchOpening(input, port), actions);
  for (const [index, endpoint] of endpoints.entries()) {
    const match = `${port.protocol},${register.network}=${input.network.vni},${register.hostPort}=${port.hostPort},${register.choice}=${index}`;
    add(table.gateway, 100, match, addressTo(port, endpoint));
  }
}

/**
 * The flows of a set, whether new connections go to it or not. Before the first answer, connection
 * tracking calls packets new. The netdev datapath has translated them. The kernel's has not, so the
 * label of the connection names its set.
 */
function compileBackend(
  input: GatewayInput,
  port: FlowGatewayPort,
  { backend, add }: { backend: Backend; add: AddFlow },
): void {
  const { network, gateway, uplink } = input;
  const { protocol, hostPort } = port;
  const { address, isRemote } = backend;
  const own = `${register.network}=${network.vni},nw_dst=${address}`;
  const opened = `${protocol},ct_state=+trk+new,${own}`;
  const label = labelOf(address);
  const translateSource = `ct(commit,zone=${network.gatewayZone},nat(src=${gateway.address}))`;
  const repeated = `${matchOpening(input, port)},ct_label=${label}`;
  add(table.inbound, 121, repeated, `${noteOpening(input, port)},${addressTo(port, backend)}`);
  const commit = [
    `set_field:${uplink.address}->nw_dst`,
    `set_field:${hostPort}->${protocol}_dst`,
    `ct(commit,zone=${network.conntrackZone},nat(dst=${address}:${backend.port}),exec(set_field:${label}->ct_label))`,
    ...(isRemote ? [translateSource] : []),
    `output:${portInRegister}`,
  ].join(",");
  add(table.output, 121, `${opened},${register.hostPort}=${hostPort}`, commit);
  const pass = [
    backend.frame,
    ...(isRemote ? [translateSource] : []),
    `output:${backend.ofPort}`,
  ].join(",");
  add(table.inbound, 118, `${opened},tp_dst=${backend.port}`, pass);
  // compileUplink has the flow of a local set.
  if (isRemote) add(table.inbound, 105, `ip,${own}`, pass);
}

/** The routes to the IPv4 addresses of the network that this host reaches. */
function listRoutes({
  network,
  gateway,
  local,
  remote,
  tunnelPort,
}: GatewayInput): ReadonlyMap<string, Route> {
  const gatewayMac = deriveMac([gateway.address]);
  assert(gatewayMac, `not an address: ${JSON.stringify(gateway.address)}`);
  const routes = new Map<string, Route>();
  const note = (addresses: readonly string[], route: Route) => {
    for (const address of addresses)
      if (familyOf(address) === 4 && !routes.has(address)) routes.set(address, route);
  };
  for (const { ofPort, mac, addresses } of local) {
    const frame = `set_field:${GATEWAY_MAC}->eth_src,set_field:${mac}->eth_dst`;
    note(addresses, { isRemote: false, frame, ofPort });
  }
  for (const { mac, addresses, tunnelAddress } of tunnelPort === undefined ? [] : remote) {
    const frame = [
      `set_field:${gatewayMac}->eth_src`,
      `set_field:${mac}->eth_dst`,
      setTunnel(network.vni, tunnelAddress),
    ].join(",");
    note(addresses, { isRemote: true, frame, ofPort: tunnelPort ?? 0 });
  }
  return routes;
}

/** The sets of the service that have the port, in the order of their addresses. */
function listBackends(
  { port, exceptions = [] }: FlowGatewayPort,
  service: FlowService | undefined,
  routes: ReadonlyMap<string, Route>,
): Backend[] {
  const ports = new Map(exceptions.map((exception) => [exception.setId, exception.port]));
  const backends = new Map<string, Backend>();
  for (const { setId = "", addresses, isEndpoint } of service?.members ?? []) {
    const own = ports.get(setId);
    if (own === null) continue;
    for (const address of addresses) {
      const route = routes.get(address);
      if (!route) continue;
      const isEither = isEndpoint || backends.get(address)?.isEndpoint === true;
      backends.set(address, { address, ...route, isEndpoint: isEither, port: own ?? port });
    }
  }
  return [...backends.values()].sort((a, b) => (a.address < b.address ? -1 : 1));
}

/** The actions that address a packet to another host of the network. */
export function setTunnel(vni: number, tunnelAddress: string): string {
  const destination = familyOf(tunnelAddress) === 4 ? "tun_dst" : "tun_ipv6_dst";
  return `set_field:${vni}->tun_id,set_field:${tunnelAddress}->${destination}`;
}

function matchOpening({ network, uplink }: GatewayInput, port: FlowGatewayPort): string {
  const opened = `${port.protocol},ct_state=+trk+new,${register.network}=${network.vni}`;
  return `${opened},nw_dst=${uplink.address},tp_dst=${port.hostPort}`;
}

/** Notes the facts of a new connection for the rules, and for the table `output`. */
function noteOpening({ numbers }: GatewayInput, port: FlowGatewayPort): string {
  return [
    load(port.hostPort, register.hostPort),
    load(1, register.isExternal),
    load(numbers.ofService(port.serviceId), register.toService),
  ].join(",");
}

function addressTo({ protocol }: FlowGatewayPort, backend: Backend): string {
  return [
    backend.frame,
    `set_field:${backend.address}->nw_dst`,
    `set_field:${backend.port}->${protocol}_dst`,
    load(backend.ofPort, register.port),
    `resubmit(,${table.ingress})`,
  ].join(",");
}

/** The label of a connection is the address of its set, as a number. */
function labelOf(address: string): string {
  const parsed = parseAddress(address);
  assert(parsed, `not an address: ${JSON.stringify(address)}`);
  return `0x${parsed.value.toString(16)}`;
}
