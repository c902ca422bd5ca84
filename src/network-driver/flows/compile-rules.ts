import type { HostRule, RuleDirection } from "../../contracts/network-driver/host-rule.ts";
import { familyOf } from "./flow-addresses.ts";
import {
  compareFlows,
  type Flow,
  flowRegisters as register,
  flowTables as table,
  GATEWAY_MAC,
  load,
  toNetworkFlow,
} from "./flow.ts";
import {
  hasMorePortMatches,
  matchPorts,
  PORT_MATCHES_MAX,
} from "../../contracts/common/match-ports.ts";
import type { ServiceNumbers } from "./service-numbers.ts";

/** The part of a network on which its rules depend. */
export interface RuleNetwork {
  vni: number;
  gateways: readonly string[];
  rules?: readonly HostRule[];
  /** True if the network has rules that this release does not know. Open connections continue. */
  deniesNew?: boolean;
}

export interface RuleInput {
  local: readonly RulePort[];
  remote: readonly RemoteRulePort[];
  /** The ids of the services that this host publishes as a gateway. */
  published?: readonly string[];
  numbers: ServiceNumbers;
  /**
   * True in the netdev datapath: after tracking, a datagram is in fragments again, and only the
   * first one has ports. Tracking has seen all of them.
   */
  seesFragments: boolean;
}

interface RulePort {
  /** All addresses that the port may use, with its link-local one. */
  addresses: readonly string[];
}

/** A port of the sets of a service to which a gateway leads. */
export interface TrustedPort {
  serviceId: string;
  protocol: "tcp" | "udp";
  port: number;
}

interface RemoteRulePort extends RulePort {
  tunnelAddress: string;
  /** For the address of a gateway. */
  trustedPorts?: readonly TrustedPort[] | undefined;
}

/** Priorities of flows for new connections. The states of other connections have higher ones. */
const priority = {
  midStream: 90,
  fromGateway: 80,
  unknownPort: 70,
  ownGateway: 60,
  gateway: 58,
  peer: 55,
  unknownPeer: 52,
  anyPeer: 50,
  /** Of the rules with the lowest precedence. */
  lastRule: 1_000,
  permitted: 10,
} as const;

const directions = {
  egress: {
    table: table.egress,
    rules: table.egressRules,
    next: table.forward,
    target: register.fromService,
    peer: register.toService,
    peerAddress: "dst",
  },
  ingress: {
    table: table.ingress,
    rules: table.ingressRules,
    next: table.output,
    target: register.toService,
    peer: register.fromService,
    peerAddress: "src",
  },
} as const;

/**
 * Compiles the rules of a network into the flows that decide about new connections. Their number is
 * linear in rules, port matches and addresses. `createConnectionDecider` is the same decision as a
 * function, and a test compares both.
 *
 * The tables `egress` and `ingress` find the service of the peer, and load its number into a
 * register. The number of the local port's service is there already. So the flow of a rule matches
 * services by their numbers: the start of a set changes only flows with its own addresses. This
 * also needs no conjunctive matches, which would repeat the members of a service for each rule.
 *
 * The priority of a rule's flow follows from the rule alone, so a change of one rule changes only
 * its own flows. Rules for services without a local set have no flows.
 *
 * A network whose rules need more than PORT_MATCHES_MAX permits no new connection. The API refuses
 * such rules, so only a faulty agent sends them.
 *
 * If a rule names a service, a local port of no known service opens and accepts no connection. It
 * may be a new set, of whose service the host's agent learns later.
 */
export function compileRules(network: RuleNetwork, input: RuleInput): Flow[] {
  if (network.deniesNew === true) return [];
  const rules = network.rules ?? [];
  const portSets = rules.map(({ ports }) => ports);
  if (hasMorePortMatches(portSets, PORT_MATCHES_MAX)) return [];
  const namesService = rules.some(
    ({ serviceId, peer }) => serviceId !== null || peer.kind === "service",
  );
  const opened = `ct_state=+trk+new,${register.network}=${network.vni}`;
  const flows: Flow[] = [];
  for (const direction of ["egress", "ingress"] as const) {
    const { table: first, rules: rulesTable, next, target } = directions[direction];
    const own = rules.filter((rule) => rule.direction === direction);
    const goto = `goto_table:${own.length === 0 ? next : rulesTable}`;
    flows.push(toNetworkFlow(network, first, priority.anyPeer, opened, goto));
    if (rules.length > 0) flows.push(...dropMidStream(network, first, opened));
    if (namesService)
      flows.push(
        toNetworkFlow(network, first, priority.unknownPort, `${opened},${target}=0`, "drop"),
      );
    if (direction === "ingress") flows.push(...permitGateways(network, opened, input));
    if (own.length === 0) continue;
    if (direction === "egress") flows.push(...compileGateways(network, opened, goto));
    flows.push(...compilePeers(network, own, { direction, opened, goto, ...input }));
    flows.push(...compileDecisions(network, own, { direction, ...input }));
  }
  return flows;
}

/**
 * Drops new TCP connections that do not begin with a SYN. Connection tracking would accept the data
 * of a server as a new connection to its client. So an end of connections would have no effect.
 */
function dropMidStream(network: RuleNetwork, first: number, opened: string): Flow[] {
  return ["tcp", "tcp6"].flatMap((protocol) =>
    ["-syn", "+ack"].map((flags) => {
      const match = `${protocol},${opened},tcp_flags=${flags}`;
      return toNetworkFlow(network, first, priority.midStream, match, "drop");
    }),
  );
}

/**
 * A gateway on another host has applied the ingress rules, with the address of the client. So
 * packets of its own address pass if they come from that host: no set can send from it. They pass
 * only to the ports that it publishes. To others, it is a peer as any other of the network.
 */
function permitGateways(
  network: RuleNetwork,
  opened: string,
  { local, remote, numbers, seesFragments }: RuleInput,
): Flow[] {
  const targets = new Set(local.map(({ addresses }) => numbers.ofAddresses(addresses)));
  const flows = new Map<string, Flow>();
  for (const { addresses, tunnelAddress, trustedPorts = [] } of remote) {
    const host = `${familyOf(tunnelAddress) === 4 ? "tun_src" : "tun_ipv6_src"}=${tunnelAddress}`;
    for (const { serviceId, protocol, port } of trustedPorts) {
      const number = numbers.ofService(serviceId);
      if (number === 0 || !targets.has(number)) continue;
      const origin = `${opened},${register.isRemote}=1,${host},${register.toService}=${number}`;
      // Later fragments of a datagram have no port, and are useless without the first.
      const ends = [`tp_dst=${port}`, ...(seesFragments ? ["nw_frag=later"] : [])];
      for (const address of addresses.filter((each) => familyOf(each) === 4))
        for (const end of ends) {
          const match = `${protocol},nw_src=${address},${origin},${end}`;
          const pass = `goto_table:${table.output}`;
          flows.set(
            match,
            toNetworkFlow(network, table.ingress, priority.fromGateway, match, pass),
          );
        }
    }
  }
  return [...flows.values()];
}

/** Packets to the gateway's MAC address leave the network, except those for the gateway itself. */
function compileGateways(network: RuleNetwork, opened: string, goto: string): Flow[] {
  const match = `${opened},dl_dst=${GATEWAY_MAC}`;
  const leave = `${load(1, register.isExternal)},${goto}`;
  return [
    toNetworkFlow(network, table.egress, priority.gateway, match, leave),
    ...[...new Set(network.gateways)].map((gateway) =>
      toNetworkFlow(
        network,
        table.egress,
        priority.ownGateway,
        `${matchAddress(gateway, "dst")},${match}`,
        goto,
      ),
    ),
  ];
}

/**
 * Finds the services that the rules name as peers, by the addresses of their ports. If ingress
 * rules name one, new connections from other addresses of the tunnel are dropped. Their sender may
 * belong to a denied service, and this host learns that later.
 */
function compilePeers(
  network: RuleNetwork,
  rules: readonly HostRule[],
  {
    direction,
    opened,
    goto,
    local,
    remote,
    numbers,
  }: RuleInput & { direction: RuleDirection; opened: string; goto: string },
): Flow[] {
  const { table: first, peer, peerAddress } = directions[direction];
  const named = new Set<number>();
  for (const rule of rules)
    if (rule.peer.kind === "service") named.add(numbers.ofService(rule.peer.serviceId));
  // The number of a local sender is in the register already.
  const isEgress = direction === "egress";
  const origin = isEgress ? "" : `,${register.isRemote}=1`;
  const namesPeer = rules.some((rule) => rule.peer.kind === "service");
  const dropsUnknown = !isEgress && namesPeer;
  const services = new Map<string, number>();
  for (const { addresses } of isEgress ? [...local, ...remote] : remote) {
    const number = numbers.ofAddresses(addresses);
    const isNamed = number !== 0 && named.has(number);
    if (!isNamed && !dropsUnknown) continue;
    for (const address of addresses)
      if (!services.has(address)) services.set(address, isNamed ? number : 0);
  }
  const flows = [...services].map(([address, number]) =>
    toNetworkFlow(
      network,
      first,
      priority.peer,
      `${matchAddress(address, peerAddress)},${opened}${origin}`,
      number === 0 ? goto : `${load(number, peer)},${goto}`,
    ),
  );
  if (dropsUnknown)
    flows.push(toNetworkFlow(network, first, priority.unknownPeer, `${opened}${origin}`, "drop"));
  return flows;
}

/** The flows of the rules themselves, and the default: a connection without a rule is permitted. */
function compileDecisions(
  network: RuleNetwork,
  rules: readonly HostRule[],
  {
    direction,
    local,
    remote,
    published = [],
    numbers,
    seesFragments,
  }: RuleInput & { direction: RuleDirection },
): Flow[] {
  const { rules: rulesTable, next, target, peer, peerAddress } = directions[direction];
  const own = `${register.network}=${network.vni}`;
  // Unlike goto_table, this leads to a table with a lower number.
  const permit = `resubmit(,${next})`;
  const targets = new Set(local.map(({ addresses }) => numbers.ofAddresses(addresses)));
  if (direction === "ingress") for (const id of published) targets.add(numbers.ofService(id));
  const families = listFamilies([...local, ...remote]);
  const flows: Flow[] = [];
  for (const rule of rules) {
    let ends = own;
    if (rule.serviceId !== null) {
      const number = numbers.ofService(rule.serviceId);
      if (number === 0 || !targets.has(number)) continue;
      ends += `,${target}=${number}`;
    }
    if (rule.peer.kind === "service") {
      const number = numbers.ofService(rule.peer.serviceId);
      if (number === 0) continue;
      ends += `,${peer}=${number}`;
    } else if (rule.peer.kind === "network") ends += `,${register.isExternal}=0`;
    const isDeny = rule.action === "deny";
    const rulePriority = priority.lastRule + 2 * rule.priority + (isDeny ? 1 : 0);
    const actions = isDeny ? "drop" : permit;
    for (const traffic of matchTraffic(rule, { families, peerAddress, seesFragments }))
      flows.push(toNetworkFlow(network, rulesTable, rulePriority, `${traffic}${ends}`, actions));
  }
  flows.push(toNetworkFlow(network, rulesTable, priority.permitted, own, permit));
  // Rules of one priority have the same action, so one flow serves equal matches.
  return flows
    .sort(compareFlows)
    .filter((flow, index) => index === 0 || compareFlows(flow, flows[index - 1] ?? flow) !== 0);
}

/**
 * The matches of the rule's protocol, ports and subnet, each empty or with a comma at its end. A
 * rule that permits a protocol also permits later fragments. They are useless without the first.
 */
function matchTraffic(
  { action, protocol, ports, peer }: HostRule,
  {
    families,
    peerAddress,
    seesFragments,
  }: { families: ReadonlySet<4 | 6>; peerAddress: "src" | "dst"; seesFragments: boolean },
): string[] {
  const subnet = peer.kind === "cidr" ? peer.cidr : undefined;
  if (protocol === "any" && subnet === undefined) return [""];
  const destinations = ports.length === 0 ? [""] : matchPorts(ports).map((one) => `tp_dst=${one},`);
  const permitsFragments = action === "allow" && protocol !== "any" && seesFragments;
  const matches: string[] = [];
  for (const family of families) {
    if (subnet !== undefined && subnet.includes(":") !== (family === 6)) continue;
    const field = `${family === 4 ? "nw" : "ipv6"}_${peerAddress}`;
    const source = subnet === undefined || subnet.endsWith("/0") ? "" : `${field}=${subnet},`;
    const name = protocolNames[protocol][family];
    for (const destination of destinations) matches.push(`${name},${source}${destination}`);
    // A later fragment of IPv6 does not even show its protocol.
    if (permitsFragments) matches.push(`${family === 6 ? "ipv6" : name},${source}nw_frag=later,`);
  }
  return matches;
}

const protocolNames = {
  any: { 4: "ip", 6: "ipv6" },
  tcp: { 4: "tcp", 6: "tcp6" },
  udp: { 4: "udp", 6: "udp6" },
  icmp: { 4: "icmp", 6: "icmp6" },
} as const;

/** A network without an IPv6 address has no IPv6 packets: see compileSender. */
function listFamilies(ports: readonly RulePort[]): Set<4 | 6> {
  const families = new Set<4 | 6>();
  for (const { addresses } of ports)
    for (const address of addresses) families.add(familyOf(address));
  return families;
}

function matchAddress(address: string, end: "src" | "dst"): string {
  return familyOf(address) === 4 ? `ip,nw_${end}=${address}` : `ipv6,ipv6_${end}=${address}`;
}
