import fc from "fast-check";
import { expect, it } from "vitest";
import type { ReplicaRequest } from "../../contracts/api/autoscaling.ts";
import { computeRequestedReplicas } from "./compute-requested-replicas.ts";

const replicasMax = 20_000;
const wanted = (want: ReplicaRequest, base: number, steps = 1) =>
  computeRequestedReplicas(want, base, steps, replicasMax);

it("takes absolute numbers as they are, and adds steps to the base", () => {
  expect(wanted({ replicas: 7 }, 3)).toBe(7);
  expect(wanted({ replicas: 0 }, 3)).toBe(0);
  expect(wanted({ step: 2 }, 3)).toBe(5);
  expect(wanted({ step: 2 }, 3, 4)).toBe(11);
});

it("rounds factors up, but not because of binary fractions", () => {
  expect(wanted({ factor: 1.5 }, 3)).toBe(5);
  expect(wanted({ factor: 1.1 }, 10)).toBe(11);
  expect(wanted({ factor: 2 }, 0)).toBe(0);
});

it("lies between the base and the maximum for all steps and factors", () => {
  const base = fc.integer({ min: 0, max: replicasMax });
  const factor = fc.double({ min: 1, max: 100, noNaN: true });
  const step = fc.integer({ min: 1, max: replicasMax });
  fc.assert(
    fc.property(
      base,
      factor,
      step,
      fc.integer({ min: 1, max: 10_000 }),
      (count, by, size, steps) => {
        for (const sets of [wanted({ factor: by }, count), wanted({ step: size }, count, steps)]) {
          expect(Number.isInteger(sets)).toBe(true);
          expect(sets).toBeGreaterThanOrEqual(count);
          expect(sets).toBeLessThanOrEqual(replicasMax);
        }
      },
    ),
  );
});
