import { z } from "zod";
import { formatSubnet, parseAddress, parseSubnet } from "../../lib/ip/ip-address.ts";
import {
  formatPortRange,
  mergePortRanges,
  parsePortRange,
  type PortRange,
  PORT_MAX,
} from "../common/port-ranges.ts";
import { RULES_PER_REQUEST_MAX } from "../common/limits.ts";
import {
  generationSchema,
  idSchema,
  nameSchema,
  pageQuery,
  timestamp,
} from "../common/primitives.ts";
import {
  RULE_PORT_RANGES_MAX,
  RULE_PRIORITY_MAX,
  ruleActionSchema,
  ruleDirectionSchema,
  ruleProtocolSchema,
} from "../network-driver/host-rule.ts";

export const RULES_PER_TENANT_MAX = 20_000;
const PRIORITY_DEFAULT = 1_000;

export const ruleDirections = ruleDirectionSchema.options;
export const ruleActions = ruleActionSchema.options;
export const ruleProtocols = ruleProtocolSchema.options;
export const rulePeerKinds = ["any", "cidr", "service", "network"] as const;

export type RuleProtocol = (typeof ruleProtocols)[number];
export type RulePeerKind = (typeof rulePeerKinds)[number];

/** The path of one operation has this name in the place of the name of a rule. */
const RESERVED_NAME = "explain";

const ruleName = nameSchema.refine(
  (name) => name !== RESERVED_NAME,
  `\`${RESERVED_NAME}\` is reserved: choose another name`,
);

const portInput = z
  .union([z.number().int().min(1).max(PORT_MAX), z.string().max(11)])
  .transform((input, context): PortRange => {
    const range = parsePortRange(String(input));
    if (range) return range;
    const message = "expected a port from 1 to 65535, or a range such as 8000-8099";
    context.addIssue({ code: "custom", message, input });
    return z.NEVER;
  });

const portsInput = z
  .array(portInput)
  .max(RULE_PORT_RANGES_MAX)
  .transform((ranges) => mergePortRanges(ranges))
  .describe(
    "Destination ports, such as 443, or ranges such as `8000-8099`. Empty for all ports. Only for `tcp` and `udp`.",
  );

const cidrInput = z
  .string()
  .max(64)
  .transform((input, context): string => {
    const subnet = parseSubnet(
      parseAddress(input) ? `${input}/${input.includes(":") ? 128 : 32}` : input,
    );
    if (subnet && !subnet.hasHostBits) return formatSubnet(subnet);
    const message = subnet
      ? `${input} has host bits: use ${formatSubnet(subnet)}`
      : "expected addresses such as 10.64.0.0/16, fd00::/8 or 192.168.7.9";
    context.addIssue({ code: "custom", message, input });
    return z.NEVER;
  });

const peerInput = z
  .strictObject({
    any: z.literal(true).optional().describe("All addresses, also external ones."),
    cidr: cidrInput.optional().describe("Addresses such as 10.64.0.0/16 or fd00::/8."),
    service: nameSchema.optional().describe("The sets of this service in the network of the rule."),
    network: nameSchema
      .optional()
      .describe(
        "All sets of this network. No path leads to other networks, so it is that of the rule.",
      ),
  })
  .refine(
    (peer) => Object.values(peer).filter((value) => value !== undefined).length === 1,
    "expected exactly one of `any`, `cidr`, `service` and `network`",
  )
  .meta({ id: "RulePeerInput" });
export type RulePeerInput = z.output<typeof peerInput>;

const definition = {
  direction: z
    .enum(ruleDirections)
    .describe("`ingress`: connections to the sets of the rule. `egress`: connections from them."),
  action: z.enum(ruleActions),
  protocol: z.enum(ruleProtocols).describe("`icmp` is ICMPv6 for IPv6 addresses."),
  ports: portsInput,
  service: nameSchema
    .nullable()
    .describe("The rule is for the sets of this service. Null for all sets of the network."),
  peer: peerInput.describe("The source of ingress, or the destination of egress."),
  priority: z
    .number()
    .int()
    .min(0)
    .max(RULE_PRIORITY_MAX)
    .describe(
      "The matching rule of the highest priority decides. Of equal priorities, `deny` precedes `allow`.",
    ),
};

const endConnections = z
  .boolean()
  .default(false)
  .describe("Also end open connections that the rules now deny.");

const createRuleInput = z
  .strictObject({
    ...definition,
    name: ruleName,
    network: nameSchema,
    protocol: definition.protocol.default("any"),
    ports: portsInput.default([]),
    service: definition.service.default(null),
    priority: definition.priority.default(PRIORITY_DEFAULT),
  })
  .superRefine(({ protocol, ports }, context) => {
    const message = describePortFault(protocol, ports);
    if (message !== undefined)
      context.addIssue({ code: "custom", path: ["ports"], message, input: ports });
  })
  .meta({ id: "CreateRule" });
export type CreateRule = z.output<typeof createRuleInput>;

export const createRulesBody = z
  .strictObject({
    rules: z.array(createRuleInput).min(1).max(RULES_PER_REQUEST_MAX),
    endConnections,
  })
  .meta({ id: "CreateRules" });
export type CreateRules = z.output<typeof createRulesBody>;

/** Members that the request omits stay as they are. */
export const patchRuleBody = z
  .strictObject({
    direction: definition.direction.optional(),
    action: definition.action.optional(),
    protocol: definition.protocol.optional(),
    ports: portsInput.optional(),
    service: definition.service.optional(),
    peer: definition.peer.optional(),
    priority: definition.priority.optional(),
    endConnections,
  })
  .meta({ id: "PatchRule" });
export type PatchRule = z.output<typeof patchRuleBody>;

export const deleteRuleQuery = z.object({
  endConnections: z
    .enum(["true", "false"])
    .optional()
    .describe("`true` also ends open connections that the rules now deny."),
});

/** The fault of a list of ports that the protocol does not have. */
export function describePortFault(
  protocol: RuleProtocol,
  ports: readonly unknown[],
): string | undefined {
  if (ports.length === 0 || protocol === "tcp" || protocol === "udp") return undefined;
  return `protocol ${protocol} has no ports: use tcp or udp, or an empty list`;
}

const peerSchema = z
  .union([
    z.strictObject({ any: z.literal(true) }),
    z.strictObject({ cidr: z.string() }),
    z.strictObject({ service: nameSchema }),
    z.strictObject({ network: nameSchema }),
  ])
  .meta({ id: "RulePeer" });
export type RulePeer = z.infer<typeof peerSchema>;

/** A firewall rule of a network. */
export const ruleSchema = z
  .strictObject({
    id: idSchema("rule"),
    tenant: nameSchema,
    network: nameSchema,
    name: nameSchema,
    generation: generationSchema,
    direction: z.enum(ruleDirections),
    action: z.enum(ruleActions),
    protocol: z.enum(ruleProtocols),
    ports: z.array(z.string()).describe("In ascending order, such as `443` and `8000-8099`."),
    service: nameSchema.nullable(),
    peer: peerSchema,
    priority: z.number().int(),
    createdAt: timestamp,
    updatedAt: timestamp,
  })
  .meta({ id: "Rule" });
export type Rule = z.infer<typeof ruleSchema>;

export const rulesCreatedSchema = z
  .strictObject({ rules: z.array(ruleSchema) })
  .meta({ id: "RulesCreated" });

export const listRulesQuery = pageQuery.extend({
  network: nameSchema.optional(),
  service: nameSchema
    .optional()
    .describe("Only rules for the sets of this service, or with it as peer."),
});

export function formatPorts(ports: readonly PortRange[]): string[] {
  return ports.map(formatPortRange);
}
