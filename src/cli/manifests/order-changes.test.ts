import fc from "fast-check";
import { expect, it } from "vitest";
import { type ReplicaSettings, orderChanges } from "./order-changes.ts";

/** The sets that a service wants while an alert requests `requested` sets. */
function countWanted({ replicas, autoscale }: ReplicaSettings, requested: number): number {
  if (autoscale === null) return replicas;
  return Math.min(autoscale.max, Math.max(autoscale.min, replicas, requested));
}

const settings: fc.Arbitrary<ReplicaSettings> = fc
  .tuple(fc.nat(30), fc.nat(30), fc.nat(30), fc.boolean())
  .map(([a, b, c, hasBounds]) => {
    const [min = 0, replicas = 0, max = 0] = [a, b, c].toSorted((x, y) => x - y);
    return { replicas, autoscale: hasBounds ? { min, max, metrics: [] } : null };
  });

it("no step leaves fewer sets than both the service and the manifest want", () => {
  fc.assert(
    fc.property(settings, settings, fc.nat(30), (before, after, requested) => {
      const floor = Math.min(countWanted(before, requested), countWanted(after, requested));
      let current = before;
      for (const change of orderChanges(before, after)) {
        current = { ...current, ...change };
        const { replicas, autoscale } = current;
        if (autoscale) {
          expect(replicas).toBeGreaterThanOrEqual(autoscale.min);
          expect(replicas).toBeLessThanOrEqual(autoscale.max);
        }
        expect(countWanted(current, requested)).toBeGreaterThanOrEqual(floor);
      }
      expect(current).toEqual(after);
    }),
    { numRuns: 2_000 },
  );
});

it("a burst keeps its sets while a manifest raises the replicas beyond the bounds", () => {
  const before = { replicas: 3, autoscale: { min: 3, max: 32, metrics: [] } };
  const after = { replicas: 40, autoscale: { min: 35, max: 60, metrics: [] } };
  expect(orderChanges(before, after)).toEqual([
    { autoscale: { min: 3, max: 60, metrics: [] } },
    { replicas: 40 },
    { autoscale: { min: 35, max: 60, metrics: [] } },
  ]);
});
