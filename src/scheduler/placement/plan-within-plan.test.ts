import { describe, expect, it } from "vitest";
import {
  amounts,
  toConstraints,
  hostOf,
  nowMs,
  policyOf,
  requestOf,
} from "../../../test/support/fleet/scheduler-world.ts";
import { createFleet } from "./fleet.ts";
import type { HostSnapshot, PlacementConstraints, PlacementRequest } from "./model.ts";
import { planPlacements } from "./plan.ts";

/** Effects of earlier placements of a plan on later ones of the same plan. */

const byZone: PlacementConstraints["spread"] = [{ by: "zone", maxSkew: 1 }];

describe("a set that is placed", () => {
  it("lets a later walk find its host in a bucket that had only full hosts", () => {
    const hosts = [
      host("h1", "z1", 100),
      hostOf("h2", { allocatable: amounts(20, { memoryBytes: 0 }) }),
      hostOf("h3", { allocatable: amounts(100, { cpuMillis: 0 }) }),
    ];
    // The third placement moves h1 to the bucket of h2. Two walks found only full hosts there.
    const requests = [10, 10, 60, 10].map((amount, i) => request(`${i}`, "web", amount));
    expect(planOn(hosts, requests)).toEqual(["0 h1", "1 h1", "2 h1", "3 h1"]);
  });

  it("excludes a service of the same plan that forbids it", () => {
    const requests = [request("1", "db", 10), request("2", "web", 10, { antiAffinity: ["db"] })];
    expect(planOn([host("h1", "z1", 100)], requests)).toEqual(["1 h1", "2 rejected"]);
  });

  it("excludes a service that it forbids, even without a rule of that service", () => {
    const requests = [request("1", "web", 10, { antiAffinity: ["db"] }), request("2", "db", 10)];
    expect(planOn([host("h1", "z1", 100)], requests)).toEqual(["1 h1", "2 rejected"]);
    const later = [request("1", "db", 10), request("2", "web", 10, { antiAffinity: ["db"] })];
    expect(planOn([host("h1", "z1", 100)], later)).toEqual(["1 h1", "2 rejected"]);
  });

  it("attracts a service with an affinity to it, at least to its zone", () => {
    // Packing alone compares only the first eight of the others, which are at least as full.
    const sized = (id: string, zone: string, rack: string, used: number) =>
      hostOf(id, { zone, rack, allocatable: amounts(1_000), allocated: amounts(used) });
    const others = Array.from({ length: 40 }, (_, i) => sized(`a${10 + i}`, "z1", "r1", 210));
    const own = { ...sized("b1", "z2", "r1", 980), labels: { db: "yes" } };
    const db = request("1", "db", 20, { hostLabels: { db: "yes" } });
    const web = request("2", "web", 10, { affinity: ["db"] });
    const hosts = [...others, sized("b2", "z2", "r2", 200)];
    expect(planOn([...hosts, own], [db, web])).toEqual(["1 b1", "2 b2"]);
    expect(planOn(hosts, [web])).toEqual(["2 a10"]);
  });

  it("counts towards the maximum number of sets on its host", () => {
    const fleet = createFleet({ ...policyOf(), setsPerHostMax: 2 });
    fleet.upsertHost(host("h1", "z1", 100));
    fleet.upsertSet({ id: "set_old", serviceId: "svc_other", hostId: "h1" });
    const requests = ["1", "2"].map((id) => request(id, "web", 1));
    const plan = () => planPlacements(fleet, requests, { seed: 1, nowMs });
    expect(plan().placements.map(({ setId }) => setId)).toEqual(["1"]);
    expect(plan().rejections).toMatchObject([
      { setId: "2", reasons: [{ reason: "too-many-sets", hosts: 1 }] },
    ]);
    fleet.removeSet("set_old");
    expect(plan().placements).toHaveLength(2);
  });

  it("counts towards the limit of its machine, which may change", () => {
    const fleet = createFleet(policyOf());
    const limited = (setsMax: number) => ({ ...host("h1", "z1", 100), setsMax });
    const requests = ["1", "2", "3"].map((id) => request(id, "web", 1));
    const countPlaced = () => planPlacements(fleet, requests, { seed: 1, nowMs }).placements.length;
    const placed = [2, 1, 3, 0].map((setsMax) => {
      fleet.upsertHost(limited(setsMax));
      return countPlaced();
    });
    expect(placed).toEqual([2, 1, 3, 0]);
    const { rejections } = planPlacements(fleet, requests, { seed: 1, nowMs });
    expect(rejections[0]?.reasons).toEqual([{ reason: "too-many-sets", hosts: 1 }]);
  });

  it("excludes it even for a request with hosts to avoid", () => {
    const apart = { antiAffinity: ["db"] };
    const hosts = [host("h1", "z1", 100), host("h2", "z1", 100)];
    const last = { ...request("2", "web", 10, apart), avoidHostIds: ["h2"] };
    expect(planOn(hosts, [request("1", "db", 10), last])).toEqual(["1 h1", "2 rejected"]);
  });

  it("counts for the spread of another revision of its service", () => {
    const hosts = [host("h1", "z1", 100), host("h2", "z2", 50)];
    const requests = ["1", "2"].map((id) => request(id, "web", 10, { spread: byZone }));
    expect(planOn(hosts, requests)).toEqual(["1 h2", "2 h1"]);
  });

  it.each([true, false])(
    "permits a zone again after another has caught up (one constraints object: %s)",
    (isOne) => {
      const hosts = [host("h1", "z1", 100), host("h2", "z2", 10)];
      const shared = { ...toConstraints({ spread: byZone }) };
      const requests = [
        request("1", "web", 20),
        request("2", "web", 20),
        request("3", "web", 10),
        request("4", "web", 20),
      ].map((one) => ({
        ...one,
        constraints: isOne || one.setId !== "3" ? shared : { ...shared },
      }));
      expect(planOn(hosts, requests)).toEqual(["1 h1", "2 rejected", "3 h2", "4 h1"]);
    },
  );
});

function planOn(hosts: readonly HostSnapshot[], requests: readonly PlacementRequest[]): string[] {
  const fleet = createFleet(policyOf());
  for (const one of hosts) fleet.upsertHost(one);
  const plan = planPlacements(fleet, requests, { seed: 1, nowMs });
  const placed = plan.placements.map(({ setId, hostId }) => `${setId} ${hostId}`);
  return [...placed, ...plan.rejections.map(({ setId }) => `${setId} rejected`)].sort();
}

function request(
  setId: string,
  serviceId: string,
  amount: number,
  constraints: Partial<PlacementConstraints> = {},
): PlacementRequest {
  return requestOf(setId, {
    serviceId,
    resources: amounts(amount),
    constraints: toConstraints(constraints),
  });
}

function host(id: string, zone: string, capacity: number): HostSnapshot {
  return hostOf(id, { zone, allocatable: amounts(capacity) });
}
