import { expect, test } from "vitest";
import { type HostRule, hostRuleSchema } from "../../contracts/network-driver/host-rule.ts";
import { limitHostRules } from "./limit-host-rules.ts";

const makeRules = (count: number): HostRule[] =>
  Array.from({ length: count }, (_, place) => ({
    ruleId: `rule_${String(place).padStart(26, "0")}`,
    name: `r-${place}`,
    priority: 1,
    direction: "ingress",
    action: "allow",
    protocol: "any",
    ports: [],
    serviceId: null,
    peer: { kind: "any" },
  }));
const network = (networkId: string, count: number) => ({ networkId, rules: makeRules(count) });

test("a host gets all rules that fit", () => {
  const networks = [network("net_a", 3), network("net_b", 0), network("net_c", 2)];
  const { rules, refusedNetworkIds } = limitHostRules(networks, 11);
  expect(refusedNetworkIds).toEqual([]);
  for (const { networkId, rules: expected } of networks)
    expect(rules.get(networkId)).toEqual(expected);
});

test("the network with the most rules denies all, and the others stay as they are", () => {
  const networks = [network("net_a", 9), network("net_b", 0), network("net_c", 2)];
  const { rules, refusedNetworkIds } = limitHostRules(networks, 11);
  expect(refusedNetworkIds).toEqual(["net_a"]);
  expect(rules.get("net_b")).toEqual([]);
  expect(rules.get("net_c")).toHaveLength(2);
  const denied = rules.get("net_a") ?? [];
  expect(denied.map(({ direction, action }) => [direction, action])).toEqual([
    ["ingress", "deny"],
    ["egress", "deny"],
  ]);
  for (const rule of denied) expect(hostRuleSchema.parse(rule)).toEqual(rule);
});

test("the rules of all networks stay within the limit, whatever their numbers", () => {
  for (const counts of [[5, 5, 5, 5], [20], [1, 19], [0, 0, 21], [3, 3, 3, 3, 3, 3]]) {
    const networks = counts.map((count, place) => network(`net_${place}`, count));
    const { rules } = limitHostRules(networks, 20);
    expect([...rules.values()].flat().length).toBeLessThanOrEqual(20);
    expect(rules.size).toBe(counts.length);
  }
});
