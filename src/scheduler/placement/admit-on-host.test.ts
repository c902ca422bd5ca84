import { describe, expect, it } from "vitest";
import {
  amounts,
  hostOf,
  nowMs,
  policyOf,
  requestOf,
  toConstraints,
} from "../../../test/support/fleet/scheduler-world.ts";
import { admitOnHost, listReasonsOnHost } from "./admit-on-host.ts";
import { createFleet, type Fleet } from "./fleet.ts";
import type { PlacementRequest } from "./model.ts";
import { planPlacements } from "./plan.ts";

function fleetOf(setsPerHostMax = 10): Fleet {
  const fleet = createFleet({ ...policyOf(), setsPerHostMax });
  fleet.upsertHost(hostOf("h1", { zone: "z1", allocatable: amounts(90) }));
  fleet.upsertHost(hostOf("h2", { zone: "z2" }));
  return fleet;
}

const admit = (fleet: Fleet, ...requests: PlacementRequest[]) => [
  ...admitOnHost(fleet, "h1", requests, { nowMs }),
];

describe("a host admits a set", () => {
  it("admits a set that all rules permit, whatever its capacity", () => {
    expect(admit(fleetOf(), requestOf("1", { resources: amounts(1_000) }))).toEqual(["1"]);
  });

  it.each([
    {
      rule: "label",
      reason: "label-mismatch",
      request: { constraints: toConstraints({ hostLabels: { disk: "ssd" } }) },
    },
    {
      rule: "feature",
      reason: "agent-too-old",
      request: { constraints: toConstraints({ features: ["init"] }) },
    },
    {
      rule: "pool",
      reason: "other-pool",
      request: { constraints: toConstraints({ pool: "gpu" }) },
    },
    { rule: "avoided host", reason: "avoided", request: { avoidHostIds: ["h1"] } },
    {
      rule: "spread",
      reason: "spread-zone",
      request: { constraints: toConstraints({ spread: [{ by: "zone", maxSkew: 1 }] }) },
    },
    {
      rule: "anti-affinity",
      reason: "anti-affinity",
      request: { constraints: toConstraints({ antiAffinity: ["svc_web"] }) },
    },
    {
      rule: "fixed host port",
      reason: "host-port-taken",
      request: {
        constraints: toConstraints({
          hostPorts: [
            { key: "tcp/80", takenOn: ["h2"] },
            { key: "udp/80", takenOn: ["h1", "gone"] },
          ],
        }),
      },
    },
  ])("unless a rule forbids it: $rule", ({ request, reason }) => {
    const fleet = fleetOf();
    fleet.upsertSet({ id: "set_old", serviceId: "svc_web", hostId: "h1" });
    expect(admit(fleet, requestOf("1", request))).toEqual([]);
    expect(listReasonsOnHost(fleet, "h1", requestOf("1", request), { nowMs })).toEqual([reason]);
  });

  it("lists the missing build and the missing networks of a host apart", () => {
    const constraints = toConstraints({
      features: ["init", "networks"],
      hostLabels: { disk: "ssd", cpu: "fast" },
    });
    const request = requestOf("1", { constraints });
    expect(listReasonsOnHost(fleetOf(), "h1", request, { nowMs })).toEqual([
      "agent-too-old",
      "networks-unavailable",
      "label-mismatch",
    ]);
  });

  it("once for each fixed host port", () => {
    const constraints = toConstraints({ hostPorts: [{ key: "tcp/80", takenOn: ["h2"] }] });
    const others = toConstraints({ hostPorts: [{ key: "tcp/81", takenOn: [] }] });
    const requests = ["1", "2"].map((id) => requestOf(id, { constraints }));
    expect(admit(fleetOf(), ...requests, requestOf("3", { constraints: others }))).toEqual([
      "1",
      "3",
    ]);
  });

  it("only with a recent report", () => {
    const later = { nowMs: nowMs + 3_600_000 };
    expect(listReasonsOnHost(fleetOf(), "h1", requestOf("1"), later)).toEqual(["report-stale"]);
    expect(admitOnHost(fleetOf(), "h1", [requestOf("1")], later)).toEqual(new Set());
  });

  it("never if it is not in the fleet", () => {
    expect(admitOnHost(fleetOf(), "h9", [requestOf("1")], { nowMs })).toEqual(new Set());
  });

  it("only up to the maximum number of sets, each on top of those before it", () => {
    const fleet = fleetOf(2);
    fleet.upsertSet({ id: "set_old", serviceId: "svc_web", hostId: "h1" });
    expect(admit(fleet, requestOf("1"), requestOf("2"))).toEqual(["1"]);
    expect(listReasonsOnHost(fleet, "h1", requestOf("1"), { nowMs })).toEqual([]);
    fleet.upsertSet({ id: "set_other", serviceId: "svc_web", hostId: "h1" });
    expect(listReasonsOnHost(fleet, "h1", requestOf("1"), { nowMs })).toEqual(["too-many-sets"]);
    const apart = toConstraints({ antiAffinity: ["svc_new"] });
    const twice = ["1", "2"].map((id) =>
      requestOf(id, { serviceId: "svc_new", constraints: apart }),
    );
    expect(admit(fleetOf(), ...twice)).toEqual(["1"]);
  });
});

describe("a claim", () => {
  const claim = { id: "set_moving", serviceId: "svc_db", hostId: "h1" };
  const apart = toConstraints({ antiAffinity: ["svc_db"] });
  const plan = (fleet: Fleet, request: PlacementRequest) =>
    planPlacements(fleet, [request], { seed: 1, nowMs }).placements.map(({ hostId }) => hostId);

  it("counts for anti-affinity until it ends", () => {
    const fleet = fleetOf();
    const request = requestOf("1", { constraints: apart });
    expect(plan(fleet, request)).toEqual(["h1"]);
    fleet.setClaims([claim]);
    expect(plan(fleet, request)).toEqual(["h2"]);
    fleet.removeClaims(["set_moving", "set_unknown"]);
    expect(plan(fleet, request)).toEqual(["h1"]);
  });

  it("counts for the maximum number of sets, and not for spread", () => {
    const fleet = fleetOf(1);
    fleet.setClaims([claim]);
    fleet.setClaims([claim]);
    expect(plan(fleet, requestOf("1"))).toEqual(["h2"]);
    fleet.setClaims([]);
    expect(plan(fleet, requestOf("1"))).toEqual(["h1"]);
    const spread = toConstraints({ spread: [{ by: "zone", maxSkew: 1 }] });
    const fleetWithClaim = fleetOf();
    fleetWithClaim.setClaims([claim]);
    expect(
      plan(fleetWithClaim, requestOf("1", { serviceId: "svc_db", constraints: spread })),
    ).toEqual(["h1"]);
  });
});
