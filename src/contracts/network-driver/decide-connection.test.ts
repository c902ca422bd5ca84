import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  connectionArbitrary,
  rulesArbitrary,
  sampleRule,
  serviceIds,
} from "../../../test/support/network/rule-samples.ts";
import {
  type Connection,
  type ConnectionDecision,
  createConnectionDecider,
} from "./decide-connection.ts";
import { type HostRule, hostRuleSchema } from "./host-rule.ts";

const [web = "", database = ""] = serviceIds;
const connection: Connection = {
  from: { address: "10.64.0.1", serviceId: web, isInNetwork: true },
  to: { address: "10.64.0.2", serviceId: database, isInNetwork: true },
  protocol: "tcp",
  port: 5432,
};
const outside = { address: "203.0.113.9", serviceId: null, isInNetwork: false };

/** Whether a rule of these members applies to the connection. */
function applies(changes: Partial<HostRule>, to: Partial<Connection> = {}): boolean {
  const rule = hostRuleSchema.parse(sampleRule(1, { ...changes, action: "deny" }));
  return !createConnectionDecider([rule])({ ...connection, ...to }).isAllowed;
}

describe("a rule applies to", () => {
  it("connections of its direction whose target is of its service", () => {
    expect(applies({})).toBe(true);
    expect(applies({ serviceId: web })).toBe(true);
    expect(applies({ serviceId: database })).toBe(false);
    expect(applies({ direction: "ingress", serviceId: database })).toBe(true);
    expect(applies({ direction: "ingress", serviceId: web })).toBe(false);
    expect(applies({ direction: "ingress" }, { to: outside })).toBe(false);
    expect(applies({ direction: "egress" }, { from: outside })).toBe(false);
  });

  it("connections of its protocol to its ports", () => {
    expect(applies({ protocol: "tcp" })).toBe(true);
    expect(applies({ protocol: "udp" })).toBe(false);
    const ports = [
      { first: 80, last: 80 },
      { first: 5_000, last: 5_432 },
    ];
    expect(applies({ protocol: "tcp", ports })).toBe(true);
    expect(applies({ protocol: "tcp", ports }, { port: 5_433 })).toBe(false);
    expect(applies({ protocol: "udp", ports })).toBe(false);
    for (const protocol of ["icmp", "other"] as const) {
      expect(applies({ protocol: "any" }, { protocol, port: null })).toBe(true);
      expect(applies({ protocol: "tcp" }, { protocol, port: null })).toBe(false);
    }
    expect(applies({ protocol: "icmp" }, { protocol: "icmp", port: null })).toBe(true);
    expect(applies({ protocol: "icmp" }, { protocol: "other", port: null })).toBe(false);
  });

  it("connections with its peer", () => {
    expect(applies({ peer: { kind: "network" } })).toBe(true);
    expect(applies({ peer: { kind: "network" } }, { to: outside })).toBe(false);
    expect(applies({ peer: { kind: "service", serviceId: database } })).toBe(true);
    expect(applies({ peer: { kind: "service", serviceId: web } })).toBe(false);
    expect(applies({ peer: { kind: "service", serviceId: web } }, { to: outside })).toBe(false);
    for (const [cidr, to, expected] of [
      ["10.64.0.0/30", connection.to, true],
      ["10.64.0.0/31", connection.to, false],
      ["0.0.0.0/0", outside, true],
      ["::/0", connection.to, false],
      ["fd00::/16", { ...connection.to, address: "fd00::2" }, true],
    ] as const)
      expect(applies({ peer: { kind: "cidr", cidr } }, { to })).toBe(expected);
  });
});

describe("the decision", () => {
  const check = (
    property: (rules: HostRule[], one: Connection, decision: ConnectionDecision) => void,
  ) =>
    fc.assert(
      fc.property(rulesArbitrary, connectionArbitrary, (rules, one) =>
        property(rules, one, createConnectionDecider(rules)(one)),
      ),
      { numRuns: 300 },
    );
  const matching = (rules: HostRule[], one: Connection, direction: HostRule["direction"]) =>
    rules.filter(
      (rule) =>
        rule.direction === direction &&
        createConnectionDecider([rule])(one)[direction]?.rule === rule,
    );

  it("is that of the first matching rule: by priority, then deny before allow, then by id", () => {
    check((rules, one, decision) => {
      for (const direction of ["egress", "ingress"] as const) {
        const target = direction === "egress" ? one.from : one.to;
        const key = ({ priority, action, ruleId }: HostRule) =>
          `${String(99_999 - priority)} ${action === "deny" ? 0 : 1} ${ruleId}`;
        const [first] = matching(rules, one, direction).toSorted((a, b) =>
          key(a) < key(b) ? -1 : 1,
        );
        expect(decision[direction]).toEqual(
          target.isInNetwork ? { action: first?.action ?? "allow", rule: first ?? null } : null,
        );
      }
    });
  });

  it("permits what both directions permit", () => {
    check((_, __, { isAllowed, egress, ingress }) => {
      const actions = [egress, ingress].map((one) => one?.action);
      expect(isAllowed).toBe(!actions.includes("deny"));
    });
  });

  it("does not depend on the order of the rules, or on lower priorities", () => {
    check((rules, one, decision) => {
      expect(createConnectionDecider(rules.toReversed())(one)).toEqual(decision);
      const later = rules.map((rule) => ({ ...rule, priority: 9_999 }));
      const all = sampleRule(0, { action: "deny", priority: 0 });
      const ruleId = "rule_7zzzzzzzzzzzzzzzzzzzzzzzzz";
      const added = [
        ...later,
        { ...all, ruleId },
        { ...all, ruleId, direction: "ingress" as const },
      ];
      const { egress, ingress } = createConnectionDecider(later)(one);
      const { egress: egressAfter, ingress: ingressAfter } = createConnectionDecider(added)(one);
      if (egress?.rule) expect(egressAfter).toEqual(egress);
      if (ingress?.rule) expect(ingressAfter).toEqual(ingress);
    });
  });
});

describe("the schema of a rule", () => {
  it("accepts sample rules", () => {
    fc.assert(
      fc.property(rulesArbitrary, (rules) => {
        for (const rule of rules) expect(hostRuleSchema.parse(rule)).toEqual(rule);
      }),
    );
  });

  it.each([
    { ports: [{ first: 80, last: 80 }] },
    { protocol: "icmp", ports: [{ first: 80, last: 80 }] },
    { protocol: "tcp", ports: [{ first: 81, last: 80 }] },
    { protocol: "tcp", ports: [{ first: 0, last: 80 }] },
    { protocol: "tcp", ports: [{ first: 80, last: 65_536 }] },
    { priority: 10_000 },
    { priority: -1 },
    { peer: { kind: "cidr", cidr: "10.64.0.1/16" } },
    { peer: { kind: "cidr", cidr: "10.64.0.1" } },
    { peer: { kind: "cidr", cidr: "FD00::/16" } },
    { peer: { kind: "cidr", cidr: "10.64.0.0/16,actions=flood" } },
    { peer: { kind: "network", serviceId: web } },
    { later: true },
  ])("refuses %j", (changes) => {
    expect(hostRuleSchema.safeParse({ ...sampleRule(1), ...changes }).success).toBe(false);
  });
});
