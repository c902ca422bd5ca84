import type { HostRule } from "../../contracts/network-driver/host-rule.ts";
import type { SharedHostNetworks } from "./host-networks.ts";

/** The texts of the rules of networks, while these are in memory. */
const ruleTexts = new WeakMap<readonly HostRule[], string>();

/**
 * Writes an answer as JSON. The hosts of a network share the text of its rules: a network can have
 * 10,000, and a change goes to all of its hosts.
 */
export function writeHostNetworks({ version, networks }: SharedHostNetworks): string {
  if (networks === null) return JSON.stringify({ version, networks });
  const texts = networks.map(({ rules, ...network }) => {
    const members = JSON.stringify(network).slice(1);
    return `{"rules":${writeRules(rules)},${members}`;
  });
  return `{"version":${JSON.stringify(version)},"networks":[${texts.join(",")}]}`;
}

function writeRules(rules: readonly HostRule[]): string {
  const text = ruleTexts.get(rules) ?? JSON.stringify(rules);
  ruleTexts.set(rules, text);
  return text;
}
