import { type HostRule, RULES_PER_HOST_MAX } from "../../contracts/network-driver/host-rule.ts";

/** A network of a host, with all its rules. */
interface NetworkWithRules {
  networkId: string;
  rules: readonly HostRule[];
}

/** The rules of a network with too many: a host that cannot enforce all must not enforce some. */
export const denyAll: readonly HostRule[] = (["ingress", "egress"] as const).map(
  (direction, place) => ({
    ruleId: `rule_${"0".repeat(25)}${place}`,
    name: "too-many-rules-on-host",
    priority: 0,
    direction,
    action: "deny",
    protocol: "any",
    ports: [],
    serviceId: null,
    peer: { kind: "any" },
  }),
);

/**
 * The rules that a host gets of each network, at most `rulesMax` in all. Networks with few rules
 * come first, so that a tenant with many does not harm the others. A network whose rules do not fit
 * denies all new connections.
 */
export function limitHostRules(
  networks: readonly NetworkWithRules[],
  rulesMax = RULES_PER_HOST_MAX,
): { rules: ReadonlyMap<string, readonly HostRule[]>; refusedNetworkIds: string[] } {
  const ascending = networks.toSorted(
    (a, b) => a.rules.length - b.rules.length || (a.networkId < b.networkId ? -1 : 1),
  );
  const rules = new Map<string, readonly HostRule[]>();
  const refusedNetworkIds: string[] = [];
  // A refused network has rules, too.
  let left = rulesMax - networks.length * denyAll.length;
  for (const network of ascending) {
    const isEmpty = network.rules.length === 0;
    if (isEmpty || network.rules.length <= left) {
      rules.set(network.networkId, network.rules);
      left -= network.rules.length;
    } else {
      rules.set(network.networkId, denyAll);
      refusedNetworkIds.push(network.networkId);
    }
  }
  return { rules, refusedNetworkIds };
}
