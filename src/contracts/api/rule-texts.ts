import type { Rule, RulePeer, RulePeerInput } from "./rules.ts";

/** A rule in one line, such as `deny ingress tcp 5432 to db from any, priority 1000`. */
export function describeRule(
  rule: Pick<Rule, "direction" | "action" | "protocol" | "ports" | "service" | "priority"> & {
    peer: RulePeerInput | RulePeer;
  },
): string {
  const ports = rule.ports.length === 0 ? "" : ` ${rule.ports.join(",")}`;
  const protocol = rule.protocol === "any" ? "" : ` ${rule.protocol}`;
  const target = rule.service ?? "all sets";
  const peer = describePeer(rule.peer);
  const path =
    rule.direction === "ingress" ? `to ${target} from ${peer}` : `from ${target} to ${peer}`;
  return `${rule.action} ${rule.direction}${protocol}${ports} ${path}, priority ${rule.priority}`;
}

export function describePeer(peer: RulePeerInput | RulePeer): string {
  if ("cidr" in peer && peer.cidr !== undefined) return peer.cidr;
  if ("service" in peer && peer.service !== undefined) return `service ${peer.service}`;
  return "network" in peer && peer.network !== undefined ? `network ${peer.network}` : "any";
}
