import fc from "fast-check";
import { expect, it } from "vitest";
import { assignConntrackZones } from "./assign-conntrack-zones.ts";
import { gatewayZoneKey } from "./compile-gateway.ts";

const vnisArbitrary = fc.array(
  // VNIs that suggest the same zone are 65,534 apart.
  fc
    .tuple(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 0, max: 3 }))
    .map(([vni, turn]) => vni + turn * 65_534),
);

it("gives each network a zone of its own", () => {
  fc.assert(
    fc.property(vnisArbitrary, (vnis) => {
      const zones = [...assignConntrackZones(vnis).values()];
      expect(zones).toHaveLength(new Set(vnis).size);
      expect(new Set(zones).size).toBe(zones.length);
      for (const zone of zones) expect(zone >= 1 && zone <= 65_534).toBe(true);
    }),
  );
});

it("leaves a network in its zone while others come and go", () => {
  fc.assert(
    fc.property(vnisArbitrary, vnisArbitrary, (before, after) => {
      const previous = assignConntrackZones(before);
      const next = assignConntrackZones(after, previous);
      for (const vni of after) if (previous.has(vni)) expect(next.get(vni)).toBe(previous.get(vni));
      expect(new Set(next.values()).size).toBe(next.size);
    }),
  );
});

it("chooses the same zones without a memory", () => {
  expect(assignConntrackZones([4097, 4100])).toEqual(assignConntrackZones([4100, 4097]));
  expect(assignConntrackZones([4100]).get(4100)).toBe(assignConntrackZones([4097, 4100]).get(4100));
});

it("the second zone of a gateway displaces no network that comes later", () => {
  const [vni, later] = [4_096, 4_608];
  const before = assignConntrackZones([vni, gatewayZoneKey(vni)]);
  const after = assignConntrackZones([vni, gatewayZoneKey(vni), later], before);
  expect(after.get(later)).toBe(assignConntrackZones([later]).get(later));
});
