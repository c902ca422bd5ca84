import { assert } from "../../lib/assert.ts";
import {
  contains,
  type IpAddress,
  type IpSubnet,
  parseAddress,
  parseSubnet,
} from "../../lib/ip/ip-address.ts";
import type { HostRule, RuleAction } from "./host-rule.ts";

/** One end of a connection: a set of the network, a gateway of it, or an external address. */
export interface ConnectionEnd {
  address: string;
  /** The service of the set. Null for other ends. */
  serviceId: string | null;
  /** True for sets and gateways of the network. */
  isInNetwork: boolean;
}

/** A new connection as the rules of a network see it, after the choice of a service's set. */
export interface Connection {
  from: ConnectionEnd;
  to: ConnectionEnd;
  /** `icmp` is ICMP and ICMPv6. */
  protocol: "tcp" | "udp" | "icmp" | "other";
  /** The destination port of TCP and UDP. Null for other protocols. */
  port: number | null;
}

/** The decision of one direction. Without a rule, the default of the network permits it. */
export interface DirectionDecision {
  action: RuleAction;
  rule: HostRule | null;
}

/** Null for a direction whose end is outside of the network: no rule of the network applies. */
export interface ConnectionDecision {
  isAllowed: boolean;
  egress: DirectionDecision | null;
  ingress: DirectionDecision | null;
}

/**
 * Returns a function that decides connections by the rules of one network. The sender's egress
 * rules and the receiver's ingress rules must both permit a connection. In each direction, the
 * matching rule with the highest priority decides. With equal priority, `deny` precedes `allow`,
 * and then the lower id names the rule. Without a matching rule, the connection is permitted.
 *
 * The network driver compiles the same rules into flows. A test compares both for random rules.
 */
export function createConnectionDecider(
  rules: readonly HostRule[],
): (connection: Connection) => ConnectionDecision {
  const prepared = rules.toSorted(compareRules).map(prepareRule);
  const egressRules = prepared.filter(({ rule }) => rule.direction === "egress");
  const ingressRules = prepared.filter(({ rule }) => rule.direction === "ingress");
  return (connection) => {
    const { from, to } = connection;
    const egress = from.isInNetwork ? decide(egressRules, connection, from, to) : null;
    const ingress = to.isInNetwork ? decide(ingressRules, connection, to, from) : null;
    return {
      isAllowed: egress?.action !== "deny" && ingress?.action !== "deny",
      egress,
      ingress,
    };
  };
}

/** Orders rules of one network by their precedence. */
function compareRules(a: HostRule, b: HostRule): number {
  if (a.priority !== b.priority) return b.priority - a.priority;
  if (a.action !== b.action) return a.action === "deny" ? -1 : 1;
  return a.ruleId < b.ruleId ? -1 : a.ruleId > b.ruleId ? 1 : 0;
}

interface PreparedRule {
  rule: HostRule;
  /** The subnet of the peer, parsed. */
  subnet: IpSubnet | undefined;
}

function prepareRule(rule: HostRule): PreparedRule {
  return { rule, subnet: rule.peer.kind === "cidr" ? parseSubnet(rule.peer.cidr) : undefined };
}

function decide(
  rules: readonly PreparedRule[],
  connection: Connection,
  target: ConnectionEnd,
  peer: ConnectionEnd,
): DirectionDecision {
  const peerAddress = parseAddress(peer.address);
  assert(peerAddress, `not an address: ${JSON.stringify(peer.address)}`);
  const deciding = rules.find(
    ({ rule, subnet }) =>
      (rule.serviceId === null || rule.serviceId === target.serviceId) &&
      (rule.protocol === "any" || rule.protocol === connection.protocol) &&
      hasPort(rule, connection.port) &&
      hasPeer(rule, peer, { subnet, peerAddress }),
  );
  return { action: deciding?.rule.action ?? "allow", rule: deciding?.rule ?? null };
}

function hasPort({ ports }: HostRule, port: number | null): boolean {
  if (ports.length === 0) return true;
  return port !== null && ports.some(({ first, last }) => first <= port && port <= last);
}

function hasPeer(
  { peer }: HostRule,
  end: ConnectionEnd,
  { subnet, peerAddress }: { subnet: IpSubnet | undefined; peerAddress: IpAddress },
): boolean {
  switch (peer.kind) {
    case "any":
      return true;
    case "network":
      return end.isInNetwork;
    case "service":
      return peer.serviceId === end.serviceId;
    case "cidr": {
      const { family, value } = peerAddress;
      return subnet !== undefined && contains(subnet, { family, first: value, last: value });
    }
  }
}
