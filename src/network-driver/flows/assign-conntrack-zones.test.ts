import fc from "fast-check";
import { expect, it } from "vitest";
import { assignConntrackZones } from "./assign-conntrack-zones.ts";

const numbersArbitrary = fc.array(
  // Numbers that suggest the same zone are 65,535 apart.
  fc
    .tuple(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 0, max: 3 }))
    .map(([number, turn]) => number + turn * 65_535),
);

it("gives each network a zone of its own", () => {
  fc.assert(
    fc.property(numbersArbitrary, (numbers) => {
      const zones = [...assignConntrackZones(numbers).values()];
      expect(zones).toHaveLength(new Set(numbers).size);
      expect(new Set(zones).size).toBe(zones.length);
      for (const zone of zones) expect(zone >= 1 && zone <= 65_535).toBe(true);
    }),
  );
});

it("leaves a network in its zone while others come and go", () => {
  fc.assert(
    fc.property(numbersArbitrary, numbersArbitrary, (before, after) => {
      const previous = assignConntrackZones(before);
      const next = assignConntrackZones(after, previous);
      for (const number of after)
        if (previous.has(number)) expect(next.get(number)).toBe(previous.get(number));
      expect(new Set(next.values()).size).toBe(next.size);
    }),
  );
});

it("chooses the same zones without a memory", () => {
  expect(assignConntrackZones([4097, 4100])).toEqual(assignConntrackZones([4100, 4097]));
  expect(assignConntrackZones([4100]).get(4100)).toBe(assignConntrackZones([4097, 4100]).get(4100));
});
