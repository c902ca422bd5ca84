import { formatCount } from "../../lib/text/format-count.ts";
import type { Named } from "./event-facts.ts";

interface NetworkFacts {
  /** The name of the network. */
  network: string;
  subnets: readonly string[];
}

interface RulesFacts {
  network: string;
  /** The first of the rules. */
  rules: readonly string[];
  /** The number of all of them. */
  count: number;
}

type RulesDeleted = RulesFacts & ({ cause: "request" } | ({ cause: "service-deleted" } & Named));

function rulesText({ network, rules, count }: RulesFacts, verb: "created" | "deleted"): string {
  const rest = count - rules.length;
  const names = rules.join(", ") + (rest > 0 ? ` and ${rest} more` : "");
  return `${formatCount(count, "rule")} ${verb} in network ${network}: ${names}.`;
}

/** The sentences of events about networks and their rules: see event-texts.ts. */
export const networkEventTexts = {
  "network-created": (facts: NetworkFacts) =>
    `Network ${facts.network} created with ${facts.subnets.join(" and ")}.`,
  "network-changed": (facts: NetworkFacts) =>
    `Network ${facts.network} changed. Its subnets are ${facts.subnets.join(" and ")}.`,
  "network-deleted": (facts: { network: string }) => `Network ${facts.network} deleted.`,
  "service-address-missing": (facts: Named & { networks: readonly string[] }) =>
    `Service ${facts.service} has no service address in ${facts.networks.join(", ")}, because a subnet has no free address. Berth tries again.`,
  "rules-created": (facts: RulesFacts) => rulesText(facts, "created"),
  "rule-changed": (facts: {
    network: string;
    rule: string;
    /** The rule after the change. */
    definition: string;
    changed: readonly string[];
  }) =>
    `Rule ${facts.rule} in network ${facts.network} changed: ${facts.changed.join(", ")}. Now it is: ${facts.definition}.`,
  "rules-deleted": (facts: RulesDeleted) =>
    facts.cause === "request"
      ? rulesText(facts, "deleted")
      : `${rulesText(facts, "deleted")} They named service ${facts.service}, which is deleted.`,
};
