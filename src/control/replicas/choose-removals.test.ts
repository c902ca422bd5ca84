import fc from "fast-check";
import { expect, it } from "vitest";
import type { ScaleInCandidateRow } from "../../db/queries/sets/scale-in-candidates.ts";
import { chooseWithinBudget } from "./choose-removals.ts";

const kinds = [
  "serving",
  "young",
  "starting",
  "pending",
  "stopped",
  "stopped-with-data",
  "restoring",
] as const;
type Kind = (typeof kinds)[number];

function toCandidate(kind: Kind, index: number): ScaleInCandidateRow {
  const isStopped = kind.startsWith("stopped");
  const isReady = kind === "serving" || kind === "young";
  return {
    id: `set_${String(index).padStart(3, "0")}`,
    hostId: kind === "pending" ? null : `host_${index % 3}`,
    hostName: kind === "pending" ? null : `h${index % 3}`,
    zone: kind === "pending" ? null : "z1",
    rack: kind === "pending" ? null : "r1",
    hostAcceptsSets: index % 5 !== 0,
    state:
      kind === "pending" ? "pending" : isStopped ? "stopped" : isReady ? "running" : "starting",
    desired: isStopped ? "stopped" : "running",
    isReady,
    isAvailable: kind === "serving",
    isMoving: index % 7 === 0,
    isStoppedWithData: kind === "stopped-with-data",
    isRestoring: kind === "restoring",
    createdAtMs: index,
  };
}

it("the rounds of a scale-in reach its size, and never cross the floor that its start fixes", () => {
  const worlds = fc.record({
    sets: fc.array(fc.constantFrom(...kinds), { minLength: 1, maxLength: 40 }),
    desired: fc.integer({ min: 1, max: 40 }),
    maxUnavailable: fc.nat({ max: 5 }),
    limit: fc.integer({ min: 1, max: 10 }),
    isSpread: fc.boolean(),
  });
  fc.assert(
    fc.property(worlds, ({ sets, desired, maxUnavailable, limit, isSpread }) => {
      const service: Parameters<typeof chooseWithinBudget>[1] = {
        placement: {
          pool: "default",
          strategy: "pack",
          affinity: [],
          antiAffinity: [],
          hostLabels: {},
          tolerations: [],
          spread: isSpread ? [{ by: "host", maxSkew: 1 }] : [],
        },
        disruption: { maxUnavailable, maxSurge: 1, minReadySeconds: 0 },
      };
      let remaining = sets.map(toCandidate);
      const countAvailable = () => remaining.filter((set) => set.isAvailable).length;
      const floor = Math.min(desired, countAvailable()) - maxUnavailable;
      while (remaining.length > desired) {
        const removals = chooseWithinBudget(remaining, service, { desired, limit });
        expect(removals).toHaveLength(Math.min(limit, remaining.length - desired));
        const ids = new Set(removals.map(({ id }) => id));
        expect(ids.size).toBe(removals.length);
        remaining = remaining.filter(({ id }) => !ids.has(id));
        expect(countAvailable()).toBeGreaterThanOrEqual(floor);
      }
    }),
    { numRuns: 500 },
  );
});
