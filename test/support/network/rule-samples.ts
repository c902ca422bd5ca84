import fc from "fast-check";
import type {
  Connection,
  ConnectionEnd,
} from "../../../src/contracts/network-driver/decide-connection.ts";
import type { HostRule } from "../../../src/contracts/network-driver/host-rule.ts";

/** Ids of services, and of one without sets. */
export const serviceIds = ["a", "b", "c"].map(
  (letter) => `svc_01jd00000000000000000000${letter}${letter}`,
);

/** The rule with this number, which permits every connection of senders unless changed. */
export function sampleRule(number: number, changes: Partial<HostRule> = {}): HostRule {
  return {
    ruleId: `rule_01jd0000000000000000${String(number).padStart(6, "0")}`,
    name: `rule-${number}`,
    priority: 100,
    direction: "egress",
    action: "allow",
    protocol: "any",
    ports: [],
    serviceId: null,
    peer: { kind: "any" },
    ...changes,
  };
}

const portArbitrary = fc.constantFrom(1, 53, 79, 80, 81, 443, 8_080, 65_535);
const rangeArbitrary = fc
  .tuple(portArbitrary, portArbitrary)
  .map(([a, b]) => ({ first: Math.min(a, b), last: Math.max(a, b) }));
const serviceIdArbitrary = fc.constantFrom(...serviceIds);
const peerArbitrary = fc.oneof<fc.Arbitrary<HostRule["peer"]>[]>(
  fc.constant({ kind: "any" }),
  fc.constant({ kind: "network" }),
  serviceIdArbitrary.map((serviceId) => ({ kind: "service", serviceId })),
  fc
    .constantFrom(
      "0.0.0.0/0",
      "::/0",
      "10.64.0.0/16",
      "10.64.0.2/31",
      "10.64.0.3/32",
      "fd00::/64",
      "fd00::2/127",
      "203.0.113.0/24",
      "10.64.255.254/32",
    )
    .map((cidr) => ({ kind: "cidr", cidr })),
);

/** Rules with few values of each member, so that many of them match the same connections. */
export const rulesArbitrary: fc.Arbitrary<HostRule[]> = fc
  .array(
    fc.record({
      priority: fc.constantFrom(0, 1, 100, 9_999),
      direction: fc.constantFrom("egress", "ingress"),
      action: fc.constantFrom("allow", "deny"),
      protocol: fc.constantFrom("any", "tcp", "udp", "icmp"),
      ports: fc.array(rangeArbitrary, { maxLength: 3 }),
      serviceId: fc.option(serviceIdArbitrary),
      peer: peerArbitrary,
    }),
    { maxLength: 12 },
  )
  .map((all) =>
    all.map((one, number) => {
      const hasPorts = one.protocol === "tcp" || one.protocol === "udp";
      return sampleRule(number, { ...one, ports: hasPorts ? one.ports : [] });
    }),
  );

export const protocolArbitrary: fc.Arbitrary<Pick<Connection, "protocol" | "port">> = fc.oneof(
  fc.record({ protocol: fc.constantFrom("tcp", "udp"), port: portArbitrary }),
  fc.record({ protocol: fc.constantFrom("icmp", "other"), port: fc.constant(null) }),
);

const memberArbitrary: fc.Arbitrary<ConnectionEnd> = fc.record({
  address: fc.constantFrom("10.64.0.1", "10.64.0.2", "10.64.0.3", "fd00::1", "fd00::2"),
  serviceId: fc.option(serviceIdArbitrary),
  isInNetwork: fc.constant(true),
});
const externalArbitrary: fc.Arbitrary<ConnectionEnd> = fc.record({
  address: fc.constantFrom("203.0.113.9", "198.51.100.7", "10.64.0.2"),
  serviceId: fc.constant(null),
  isInNetwork: fc.constant(false),
});

/** Connections between two sets, or between a set and an external address. */
export const connectionArbitrary: fc.Arbitrary<Connection> = fc
  .tuple(
    fc.oneof(
      fc.record({ from: memberArbitrary, to: memberArbitrary }),
      fc.record({ from: memberArbitrary, to: externalArbitrary }),
      fc.record({ from: externalArbitrary, to: memberArbitrary }),
    ),
    protocolArbitrary,
  )
  .map(([ends, protocol]) => ({ ...ends, ...protocol }));
