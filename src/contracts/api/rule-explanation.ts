import { z } from "zod";
import { addressSchema } from "../network-driver/network-state.ts";
import { idSchema, nameSchema, orNull } from "../common/primitives.ts";
import { PORT_MAX } from "../common/port-ranges.ts";
import { describePeer } from "./rule-texts.ts";
import { ruleActions, ruleSchema } from "./rules.ts";

/** Sets of a service that an explanation compares. More would cost time and show little. */
export const SETS_EXPLAINED_MAX = 8;

const END_CHARACTERS_MAX = 63;

const endText = z
  .string()
  .min(1)
  .max(END_CHARACTERS_MAX)
  .describe("The id of a set, the name of a service, or an address.");

export const explainRulesQuery = z
  .object({
    from: endText,
    to: endText,
    protocol: z.enum(["tcp", "udp", "icmp"]).default("tcp"),
    port: z.coerce
      .number()
      .int()
      .min(1)
      .max(PORT_MAX)
      .optional()
      .describe("The destination port of TCP or UDP."),
    network: nameSchema.optional().describe("Only connections in this network."),
  })
  .superRefine(({ protocol, port }, context) => {
    const message =
      protocol === "icmp"
        ? "icmp has no port: omit it"
        : `expected the destination port of ${protocol}`;
    if ((protocol === "icmp") === (port === undefined)) return;
    context.addIssue({ code: "custom", path: ["port"], message, input: port });
  });
export type ExplainRules = z.output<typeof explainRulesQuery>;

const endSchema = z
  .strictObject({
    address: addressSchema,
    setId: idSchema("set").nullable(),
    service: nameSchema.nullable(),
  })
  .meta({ id: "ConnectionEnd" });
export type ExplainedEnd = z.infer<typeof endSchema>;

const decisionSchema = z
  .strictObject({
    action: z.enum(ruleActions),
    rule: orNull(ruleSchema).describe("The deciding rule. Null if no rule matches: that allows."),
  })
  .meta({ id: "RuleDecision" });

const pathSchema = z
  .strictObject({
    network: nameSchema,
    from: endSchema,
    to: endSchema,
    isAllowed: z.boolean(),
    egress: orNull(decisionSchema).describe("Null if the sender is external."),
    ingress: orNull(decisionSchema).describe("Null if the receiver is external."),
    connectionCount: z
      .number()
      .int()
      .describe("The pairs of addresses with the same decisions. `from` and `to` are one of them."),
  })
  .meta({ id: "ExplainedPath" });
export type ExplainedPath = z.infer<typeof pathSchema>;

export const ruleVerdicts = ["allowed", "denied", "mixed", "no-path"] as const;

/** Which rules decide a connection. */
export const ruleExplanationSchema = z
  .strictObject({
    verdict: z
      .enum(ruleVerdicts)
      .describe("`mixed`: the rules allow some of the paths. `no-path`: see `notes`."),
    paths: z.array(pathSchema),
    notes: z.array(z.string()).describe("Why a path is missing, or what `paths` leaves out."),
    text: z.string(),
  })
  .meta({ id: "RuleExplanation" });
export type RuleExplanation = z.infer<typeof ruleExplanationSchema>;

const verdictTexts = { allowed: "Allowed", denied: "Denied", mixed: "Partly allowed" } as const;

/** The explanation in lines, for people. */
export function renderExplanation(
  { verdict, paths, notes }: Omit<RuleExplanation, "text">,
  { protocol, port }: Pick<ExplainRules, "protocol" | "port">,
): string {
  const connection = port === undefined ? protocol : `${port}/${protocol}`;
  const lines = [verdict === "no-path" ? "No path." : `${verdictTexts[verdict]}: ${connection}.`];
  for (const path of paths) {
    const { network, from, to, isAllowed, egress, ingress, connectionCount } = path;
    const count =
      connectionCount > 1 ? `, and ${connectionCount - 1} more with the same decisions` : "";
    const outcome = isAllowed ? "allowed" : "denied";
    lines.push(
      `${describeEnd(from)} to ${describeEnd(to)} in network ${network}: ${outcome}${count}.`,
    );
    if (egress) lines.push(`  Egress of ${describeSide(from)}: ${describeDecision(egress)}`);
    if (ingress) lines.push(`  Ingress of ${describeSide(to)}: ${describeDecision(ingress)}`);
  }
  return [...lines, ...notes].join("\n");
}

function describeDecision({ action, rule }: NonNullable<ExplainedPath["egress"]>): string {
  if (!rule) return "allowed, because no rule matches.";
  const ports = rule.ports.length === 0 ? "" : ` ${rule.ports.join(",")}`;
  const facts = `priority ${rule.priority}, ${rule.protocol}${ports}, peer ${describePeer(rule.peer)}`;
  return `${action === "allow" ? "allowed" : "denied"} by rule ${rule.name} (${facts}).`;
}

function describeEnd({ address, setId }: ExplainedEnd): string {
  return setId === null ? address : `${setId} (${address})`;
}

function describeSide({ address, service }: ExplainedEnd): string {
  return service === null ? address : `service ${service}`;
}
