import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { GatewayClaim, GatewayClaims } from "../../db/queries/networks/gateways.ts";
import {
  GATEWAY_PORTS_MAX,
  GATEWAY_TARGETS_MAX,
} from "../../contracts/network-driver/network-state.ts";
import { planGateway } from "./plan-gateway.ts";

const claimArbitrary: fc.Arbitrary<GatewayClaim> = fc
  .record({
    protocol: fc.constantFrom("tcp" as const, "udp" as const),
    port: fc.constantFrom(80, 443),
    serviceId: fc.constantFrom("svc_a", "svc_b", "svc_c"),
    name: fc.constantFrom("http", "https"),
  })
  .map((claim) => ({ ...claim, networkId: `net_${claim.serviceId === "svc_c" ? 2 : 1}` }));

const portOf = ({ protocol, port }: Pick<GatewayClaim, "protocol" | "port">) =>
  `${port}/${protocol}`;
const subnetOf = (networkId: string) => networkId.replace("net", "sub");
const textOf = ({ protocol, port, serviceId, networkId, name }: GatewayClaim) =>
  [protocol, port, serviceId, networkId, name].join(" ");

/** The held claims, and the taken ports of sets, have distinct ports, as the database ensures. */
const claimsArbitrary: fc.Arbitrary<GatewayClaims> = fc
  .record({
    canPublish: fc.boolean(),
    wanted: fc.array(claimArbitrary, { maxLength: 8 }),
    held: fc.uniqueArray(claimArbitrary, { selector: portOf, maxLength: 4 }),
    taken: fc.uniqueArray(claimArbitrary, { selector: portOf, maxLength: 2 }),
    networks: fc.uniqueArray(fc.constantFrom("net_1", "net_2")),
  })
  .map(({ wanted, held, taken, networks, ...flags }) => {
    const ofSets = new Set(taken.map(portOf));
    return {
      ...flags,
      hostId: "host",
      wanted: wanted.map((claim) => ({ ...claim, subnetId: subnetOf(claim.networkId), sets: 3 })),
      held: held.filter((claim) => !ofSets.has(portOf(claim))),
      taken,
      addresses: networks.map((networkId) => ({ networkId, subnetId: subnetOf(networkId) })),
    };
  });

/** The claims after the plan, as the database stores them. */
function perform(claims: GatewayClaims): GatewayClaims {
  const { added, dropped, missing, released } = planGateway(claims);
  const deleted = new Set(dropped.map(textOf));
  const left = new Set(released.map(({ subnetId }) => subnetId));
  return {
    ...claims,
    held: [...claims.held.filter((claim) => !deleted.has(textOf(claim))), ...added],
    addresses: [...claims.addresses.filter(({ subnetId }) => !left.has(subnetId)), ...missing],
  };
}

describe("a plan of a gateway", () => {
  it("gives each port one holder, and changes nothing a second time", () => {
    fc.assert(
      fc.property(claimsArbitrary, (claims) => {
        const after = perform(claims);
        const ports = [...after.held, ...after.taken].map(portOf);
        expect(new Set(ports).size).toBe(ports.length);
        const nothing = { added: [], dropped: [], missing: [], released: [] };
        expect(planGateway(after)).toEqual(nothing);
      }),
    );
  });

  it("drops exactly the claims that no service wants", () => {
    fc.assert(
      fc.property(claimsArbitrary, (claims) => {
        const wanted = new Set(claims.wanted.map(textOf));
        const unwanted = claims.held.filter((claim) => !wanted.has(textOf(claim)));
        expect(planGateway(claims).dropped).toEqual(unwanted);
      }),
    );
  });

  it("adds a wanted port unless it has a holder, or the host cannot publish", () => {
    fc.assert(
      fc.property(claimsArbitrary, (claims) => {
        const after = perform(claims);
        const held = new Set([...after.held, ...after.taken].map(portOf));
        const lacking = claims.wanted.filter((claim) => !held.has(portOf(claim)));
        if (claims.canPublish) expect(lacking).toEqual([]);
        else expect(planGateway(claims).added).toEqual([]);
      }),
    );
  });

  it("gives an address in exactly the networks of its ports", () => {
    fc.assert(
      fc.property(claimsArbitrary, (claims) => {
        const after = perform(claims);
        const having = new Set(after.addresses.map(({ networkId }) => networkId));
        const needed = new Set(after.held.map(({ networkId }) => networkId));
        expect(having).toEqual(needed);
      }),
    );
  });

  it("adds no port beyond the bounds of a host, and drops none for them", () => {
    const wanted = Array.from({ length: GATEWAY_PORTS_MAX + 10 }, (_, index) => ({
      protocol: "tcp" as const,
      port: 1e3 + index,
      serviceId: "svc_a",
      name: "http",
      networkId: "net_1",
      subnetId: "sub_1",
      sets: 1,
    }));
    const toHeld = ({ subnetId: _subnetId, sets: _sets, ...claim }: (typeof wanted)[number]) =>
      claim;
    const claims = { hostId: "host", canPublish: true, wanted, taken: [], addresses: [] };
    expect(planGateway({ ...claims, held: [] }).added).toHaveLength(GATEWAY_PORTS_MAX);
    const held = wanted.slice(-5).map(toHeld);
    const after = planGateway({ ...claims, held });
    expect(after.dropped).toEqual([]);
    expect(after.added).toHaveLength(GATEWAY_PORTS_MAX - 5);
    const large = wanted.map((claim) => ({ ...claim, sets: GATEWAY_TARGETS_MAX / 2 }));
    expect(planGateway({ ...claims, wanted: large, held: [] }).added).toHaveLength(2);
    const retained = large.slice(0, 3).map(toHeld);
    const full = planGateway({ ...claims, wanted: large, held: retained });
    expect(full).toMatchObject({ added: [], dropped: [] });
  });
});
