import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  amounts,
  toConstraints,
  hostOf,
  nowMs,
  policyOf,
  requestOf,
} from "../../../test/support/fleet/scheduler-world.ts";
import { createFleet, type Fleet } from "./fleet.ts";
import type { HostSnapshot } from "./model.ts";
import { planPlacements } from "./plan.ts";

const options = { seed: 1, nowMs };

function buildFleet(hosts: readonly HostSnapshot[]): Fleet {
  const fleet = createFleet(policyOf());
  for (const host of hosts) fleet.upsertHost(host);
  return fleet;
}

/** Changes of one host after another, with additions and removals. */
const change = fc.record({
  id: fc.constantFrom("host_a", "host_b", "host_c", "host_d"),
  isRemoved: fc.boolean(),
  host: fc.record({
    zone: fc.constantFrom("z1", "z2"),
    rack: fc.constantFrom("r1", "r2"),
    labels: fc.constantFrom<Record<string, string>>(
      {},
      { disk: "ssd" },
      { disk: "hdd" },
      { disk: "ssd", gpu: "no" },
    ),
    taints: fc.constantFrom([], [{ key: "only", value: "batch" }], [{ key: "only", value: "web" }]),
    readiness: fc.constantFrom<HostSnapshot["readiness"]>("ready", "ready", "cordoned", "lost"),
    allocated: fc.integer({ min: 0, max: 100 }).map((each) => amounts(each)),
    images: fc.constantFrom<string[]>([], ["app:1"]),
    reported: fc.constantFrom(
      { used: amounts(0), atMs: nowMs },
      { used: amounts(30), atMs: nowMs },
      undefined,
    ),
  }),
});

describe("a fleet", () => {
  test("plans independently of its earlier plans and changes", () => {
    const requests = [
      ...["1", "2", "3"].map((id) => requestOf(`set_${id}`, { images: ["app:1"] })),
      ...["4", "5"].map((id) =>
        requestOf(`set_${id}`, {
          serviceId: "svc_db",
          constraints: toConstraints({
            hostLabels: { disk: "ssd" },
            spread: [{ by: "zone", maxSkew: 1 }],
          }),
        }),
      ),
    ];
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 20 }), (changes) => {
        const changed = buildFleet([hostOf("host_a"), hostOf("host_b")]);
        const now = new Map([hostOf("host_a"), hostOf("host_b")].map((host) => [host.id, host]));
        for (const [step, { id, isRemoved, host }] of changes.entries()) {
          if (isRemoved && step % 3 === 0) {
            now.delete(id);
            changed.removeHost(id);
          } else {
            now.set(id, hostOf(id, host));
            changed.upsertHost(hostOf(id, host));
          }
          // Planning makes the columns that the next change has to keep right.
          expect(planPlacements(changed, requests, options)).toEqual(
            planPlacements(buildFleet([...now.values()]), requests, options),
          );
        }
      }),
      { numRuns: 150 },
    );
  });

  test("counts hosts and sets, and forgets a service with its last set", () => {
    const fleet = buildFleet([hostOf("host_a"), hostOf("host_b")]);
    fleet.upsertSet({ id: "set_1", serviceId: "svc_web", hostId: "host_a" });
    fleet.upsertSet({ id: "set_2", serviceId: "svc_web", hostId: "host_a" });
    fleet.upsertSet({ id: "set_2", serviceId: "svc_web", hostId: "host_b" });
    expect([fleet.hostCount, fleet.setCount]).toEqual([2, 2]);
    expect(fleet.countSetsByHost("svc_web")).toEqual(
      new Map([
        ["host_a", 1],
        ["host_b", 1],
      ]),
    );
    fleet.removeSet("set_1");
    fleet.removeSet("set_2");
    fleet.removeSet("set_2");
    expect(fleet.countSetsByHost("svc_web").size).toBe(0);
    fleet.removeHost("host_z");
    fleet.removeHost("host_a");
    expect([fleet.hostCount, fleet.setCount, fleet.getHost("host_a")]).toEqual([1, 0, undefined]);
  });

  test("applies a new policy immediately", () => {
    const fleet = buildFleet([hostOf("host_a", { allocated: amounts(95) })]);
    expect(planPlacements(fleet, [requestOf("set_1")], options).placements).toEqual([]);
    fleet.setPolicy({ ...policyOf({ overcommitPercent: amounts(200) }), version: 2 });
    expect(planPlacements(fleet, [requestOf("set_1")], options)).toMatchObject({
      policyVersion: 2,
      placements: [{ hostId: "host_a" }],
    });
  });

  test("rejects hosts of a pool without a policy", () => {
    const fleet = buildFleet([hostOf("host_a", { pool: "unknown" })]);
    expect(() => planPlacements(fleet, [], options)).toThrow("host pool unknown has no policy");
  });
});

describe("preferences", () => {
  const empty = { allocated: amounts(20) };
  const fuller = { allocated: amounts(22) };

  test("the holders of an image follow the last report of each host", () => {
    const fleet = createFleet(policyOf());
    const requests = [requestOf("set_1", { images: ["app:1"] })];
    const holderAfter = (images: string[]) => {
      fleet.upsertHost(hostOf("host_a"));
      fleet.upsertHost(hostOf("host_b", { images }));
      const [placement] = planPlacements(fleet, requests, { seed: 1, nowMs }).placements;
      return { hostId: placement?.hostId, images: placement?.because["images"] };
    };
    const noHolder = { hostId: "host_a", images: undefined };
    expect(holderAfter([])).toEqual(noHolder);
    expect(holderAfter(["app:1"])).toEqual({ hostId: "host_b", images: 150_000 });
    expect(holderAfter(["app:1"])).toEqual({ hostId: "host_b", images: 150_000 });
    expect(holderAfter(["app:2"])).toEqual(noHolder);
  });

  test("a host that holds the images wins over one that is a little fuller", () => {
    const fleet = buildFleet([
      hostOf("host_a", fuller),
      hostOf("host_b", { ...empty, images: ["app:1"] }),
    ]);
    const [placement] = planPlacements(
      fleet,
      [requestOf("set_1", { images: ["app:1"] })],
      options,
    ).placements;
    expect(placement).toMatchObject({ hostId: "host_b", because: { images: 150_000 } });
  });

  test("an image on no host does not change the score", () => {
    const fleet = buildFleet([hostOf("host_a", fuller), hostOf("host_b", empty)]);
    const [placement] = planPlacements(
      fleet,
      [requestOf("set_1", { images: ["app:2"] })],
      options,
    ).placements;
    expect(placement).toMatchObject({ hostId: "host_a" });
    expect(placement?.because).not.toHaveProperty("images");
  });

  test.each([
    { near: "its host", ids: ["host_same"], score: 200_000 },
    { near: "its rack", ids: ["host_rack"], score: 120_000 },
    { near: "its zone", ids: ["host_zone"], score: 60_000 },
  ])("affinity prefers $near", ({ ids, score }) => {
    const places = {
      host_far: hostOf("host_far", { ...fuller, zone: "z2", rack: "r9" }),
      host_zone: hostOf("host_zone", { ...empty, rack: "r2" }),
      host_rack: hostOf("host_rack", empty),
      host_same: hostOf("host_same", empty),
    };
    const fleet = createFleet(policyOf());
    for (const [id, host] of Object.entries(places)) {
      // Only the expected and the far host take sets. The neighbor needs its own host, too.
      const isOpen = id === "host_far" || ids.includes(id);
      fleet.upsertHost(isOpen ? host : { ...host, readiness: "cordoned" });
    }
    fleet.upsertSet({ id: "set_db", serviceId: "svc_db", hostId: "host_same" });
    const near = requestOf("set_1", {
      constraints: toConstraints({ affinity: ["svc_db", "svc_deleted"] }),
    });
    const [placement] = planPlacements(fleet, [near], options).placements;
    expect(placement).toMatchObject({ hostId: ids[0], because: { affinity: score } });
  });

  test("spread prefers the emptiest host, pack the fullest, and ids decide between equal ones", () => {
    const hosts = [hostOf("host_c", empty), hostOf("host_b", fuller), hostOf("host_a", empty)];
    const placeWith = (strategy: "pack" | "spread") =>
      planPlacements(
        buildFleet(hosts),
        [requestOf("set_1", { constraints: toConstraints({ strategy }) })],
        options,
      ).placements[0]?.hostId;
    expect(placeWith("pack")).toBe("host_b");
    expect(placeWith("spread")).toBe("host_a");
  });

  test("requests that differ in only one dimension have different shapes", () => {
    const shared = toConstraints();
    const images: string[] = [];
    const computeSetAmounts = [
      amounts(50),
      ...(["cpuMillis", "memoryBytes", "volumeBytes", "rootfsBytes"] as const).map((d) =>
        amounts(50, { [d]: 60 }),
      ),
    ];
    const requests = computeSetAmounts.map((requested, i) =>
      requestOf(`set_${i}`, { resources: requested, constraints: shared, images }),
    );
    const { placements, rejections } = planPlacements(
      buildFleet([hostOf("host_a"), hostOf("host_b")]),
      requests,
      options,
    );
    expect(placements.map(({ setId }) => setId)).toEqual(["set_0", "set_1"]);
    expect(rejections.map(({ setId }) => setId)).toEqual(["set_2", "set_3", "set_4"]);
  });
});
