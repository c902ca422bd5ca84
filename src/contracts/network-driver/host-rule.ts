import { z } from "zod";
import { formatSubnet, parseSubnet } from "../../lib/ip/ip-address.ts";
import { idSchema, nameSchema } from "../common/primitives.ts";

/** All networks of a host have at most this number of rules. */
export const RULES_PER_HOST_MAX = 50_000;
export const RULE_PRIORITY_MAX = 9_999;
/** A rule has at most this number of port ranges. */
export const RULE_PORT_RANGES_MAX = 16;

export const ruleDirectionSchema = z.enum(["ingress", "egress"]);
export const ruleActionSchema = z.enum(["allow", "deny"]);
/** `icmp` is ICMP and ICMPv6. `any` includes protocols without a name here. */
export const ruleProtocolSchema = z.enum(["any", "tcp", "udp", "icmp"]);

const portSchema = z.number().int().min(1).max(65_535);

/** The ports from `first` to `last`, both included. */
export const rulePortRangeSchema = z
  .strictObject({ first: portSchema, last: portSchema })
  .refine(({ first, last }) => first <= last, "expected `first` not after `last`");

/** The other end of the connection: for egress its receiver, for ingress its sender. */
const rulePeerSchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("any") }),
  z.strictObject({
    kind: z.literal("cidr"),
    cidr: z.string().max(49).refine(isCanonical, "expected a subnet such as 10.64.0.0/16"),
  }),
  z.strictObject({ kind: z.literal("service"), serviceId: idSchema("svc") }),
  /** The rule's own network: all its sets, and its gateways. No path leads to other networks. */
  z.strictObject({ kind: z.literal("network") }),
]);

/**
 * A firewall rule of a network as its hosts get it. `createConnectionDecider` says which rule
 * decides a connection.
 */
export const hostRuleSchema = z
  .strictObject({
    ruleId: idSchema("rule"),
    name: nameSchema,
    /** A higher one precedes a lower one. With equal priority, `deny` precedes `allow`. */
    priority: z.number().int().min(0).max(RULE_PRIORITY_MAX),
    direction: ruleDirectionSchema,
    action: ruleActionSchema,
    protocol: ruleProtocolSchema,
    /** The destination ports, of TCP and UDP alone. Empty for all ports. */
    ports: z.array(rulePortRangeSchema).max(RULE_PORT_RANGES_MAX),
    /** The target: the sets of this service, or all sets of the network. */
    serviceId: idSchema("svc").nullable(),
    peer: rulePeerSchema,
  })
  .refine(
    ({ protocol, ports }) => ports.length === 0 || protocol === "tcp" || protocol === "udp",
    "expected `ports` only with the protocol `tcp` or `udp`",
  );

export type HostRule = z.output<typeof hostRuleSchema>;
export type RuleDirection = z.output<typeof ruleDirectionSchema>;
export type RuleAction = z.output<typeof ruleActionSchema>;

function isCanonical(text: string): boolean {
  const subnet = parseSubnet(text);
  return subnet !== undefined && formatSubnet(subnet) === text;
}
