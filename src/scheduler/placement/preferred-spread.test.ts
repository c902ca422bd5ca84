import fc from "fast-check";
import { expect, it } from "vitest";
import {
  amounts,
  hostOf,
  nowMs,
  policyOf,
  requestOf,
  toConstraints,
} from "../../../test/support/fleet/scheduler-world.ts";
import { createFleet } from "./fleet.ts";
import type { SpreadConstraint } from "./model.ts";
import { planPlacements } from "./plan.ts";

const zones = ["z1", "z2", "z3"];
const byZone = { by: "zone", maxSkew: 1 } as const;

/** Plans `count` equal sets of one service. Each zone has hosts with capacity for so many sets. */
function planSets(
  spread: readonly SpreadConstraint[],
  slotsByZone: readonly (readonly number[])[],
  count: number,
): { setsByHost: number[][]; waiting: number } {
  const fleet = createFleet(policyOf());
  for (const [z, hosts] of slotsByZone.entries()) {
    for (const [h, slots] of hosts.entries())
      fleet.upsertHost(hostOf(`z${z}h${h}`, { zone: `z${z}`, allocatable: amounts(slots * 10) }));
  }
  const constraints = toConstraints({ spread });
  const requests = Array.from({ length: count }, (_, n) =>
    requestOf(`set_${String(n).padStart(3, "0")}`, { constraints }),
  );
  const plan = planPlacements(fleet, requests, { seed: 1, nowMs });
  const setsByHost = slotsByZone.map((hosts, z) =>
    hosts.map((_, h) => plan.placements.filter(({ hostId }) => hostId === `z${z}h${h}`).length),
  );
  return { setsByHost, waiting: plan.rejections.length };
}

const sum = (numbers: readonly number[]) => numbers.reduce((total, one) => total + one, 0);

it("places each set that would be placed without the rule, and balances zones with capacity", () => {
  const slots = fc.array(fc.integer({ min: 0, max: 6 }), { minLength: 1, maxLength: 3 });
  const fleets = fc.array(slots, { minLength: 3, maxLength: 3 });
  const count = fc.integer({ min: 0, max: 40 });
  const maxSkews = fc.integer({ min: 1, max: 3 });
  fc.assert(
    fc.property(fleets, count, maxSkews, (slotsByZone, setCount, maxSkew) => {
      const rule = { by: "zone", maxSkew, mode: "preferred" } as const;
      const { setsByHost, waiting } = planSets([rule], slotsByZone, setCount);
      expect(waiting).toBe(planSets([], slotsByZone, setCount).waiting);
      const placed = setsByHost.map(sum);
      const open = placed.filter((sets, z) => sets < sum(slotsByZone[z] ?? []));
      const lowest = Math.min(...open);
      for (const sets of placed) expect(sets - lowest).toBeLessThanOrEqual(maxSkew);
    }),
    { numRuns: 500 },
  );
});

it("returns to balance after another placement has raised the lowest count", () => {
  const fleet = createFleet(policyOf());
  fleet.upsertHost(hostOf("h1", { zone: "z1" }));
  fleet.upsertHost(hostOf("h2", { zone: "z2" }));
  fleet.upsertHost(hostOf("h3", { zone: "z3", allocatable: amounts(5) }));
  const constraints = toConstraints({ spread: [{ ...byZone, mode: "preferred" }] });
  // Zone z3 has no capacity for the third large set, and then takes the small one.
  const sizes = [10, 10, 10, 5, 10];
  const requests = sizes.map((size, n) =>
    requestOf(`set_${n}`, { constraints, resources: amounts(size) }),
  );
  const { placements } = planPlacements(fleet, requests, { seed: 1, nowMs });
  expect(placements.map(({ hostId }) => hostId)).toEqual(["h1", "h2", "h1", "h3", "h2"]);
});

it("a required and a preferred rule place sets like this", async () => {
  const cases = [
    { name: "capacity in all zones", slots: [[8], [8], [8]], count: 8 },
    { name: "one full zone", slots: [[8], [8], [1]], count: 9 },
    { name: "one zone without capacity", slots: [[8], [8], [0]], count: 5 },
    { name: "capacity in one zone only", slots: [[8], [0], [0]], count: 5 },
    { name: "too few places", slots: [[2], [3], [1]], count: 9 },
    {
      name: "two hosts in each zone",
      slots: [
        [9, 9],
        [1, 1],
        [9, 9],
      ],
      count: 14,
    },
  ];
  const rules: { name: string; spread: SpreadConstraint[] }[] = [
    { name: "no rule", spread: [] },
    { name: "zone required", spread: [byZone] },
    { name: "zone preferred", spread: [{ ...byZone, mode: "preferred" }] },
    {
      name: "zone and host preferred",
      spread: [
        { ...byZone, mode: "preferred" },
        { by: "host", maxSkew: 1, mode: "preferred" },
      ],
    },
    {
      name: "zone preferred, host required",
      spread: [
        { ...byZone, mode: "preferred" },
        { by: "host", maxSkew: 2 },
      ],
    },
  ];
  const lines = cases.flatMap(({ name, slots, count }) => [
    `${name}: ${count} sets, places by zone ${format(slots)}`,
    ...rules.map((rule) => {
      const { setsByHost, waiting } = planSets(rule.spread, slots, count);
      return `  ${rule.name.padEnd(30)} ${format(setsByHost)}, ${waiting} wait`;
    }),
  ]);
  await expect(`${lines.join("\n")}\n`).toMatchFileSnapshot(
    "../../../test/golden/scheduler/preferred-spread.txt",
  );
});

function format(byHost: readonly (readonly number[])[]): string {
  return byHost.map((hosts, z) => `${zones[z]} ${hosts.join("+")}`).join(" | ");
}
