import fc from "fast-check";
import { describe, expect, it, test } from "vitest";
import {
  amounts,
  hostOf,
  nowMs,
  policyOf,
  requestOf,
} from "../../../test/support/fleet/scheduler-world.ts";
import type { SetState } from "../../contracts/api/sets.ts";
import { createFleet } from "./fleet.ts";
import { dimensions, type Resources } from "./model.ts";
import { planPlacements } from "./plan.ts";
import {
  type ReportedSet,
  STARTUP_MS_MAX,
  sumUnreported,
  unreportedAmounts,
} from "./unreported-amounts.ts";

const reportedAtMs = 10_000_000;
const measuredStates = ["pending", "running", "stopping", "stopped", "failed", "lost"] as const;
const states: readonly SetState[] = ["placed", "preparing", "starting", ...measuredStates];

describe("the unreported part of a booking", () => {
  it("is the whole booking until the host measures something of the set", () => {
    for (const state of ["placed", "preparing", "starting"] as const)
      expect(unreportedAmounts(createSet({ state }), reportedAtMs)).toEqual(amounts(100));
  });

  it("excludes the usage that the host measures already, and is never negative", () => {
    const used = amounts(0, { memoryBytes: 30, volumeBytes: 120 });
    expect(unreportedAmounts(createSet({ state: "preparing", used }), reportedAtMs)).toEqual(
      amounts(100, { memoryBytes: 70, volumeBytes: 0 }),
    );
  });

  it("ends after the startup time, so that a set that fails repeatedly blocks no host", () => {
    const after = (ms: number) =>
      unreportedAmounts(
        createSet({ state: "starting", startingSinceMs: reportedAtMs - ms }),
        reportedAtMs,
      );
    expect(after(STARTUP_MS_MAX - 1)).toEqual(amounts(100));
    expect(after(STARTUP_MS_MAX)).toEqual(amounts(0));
  });

  it("does not end while the set still pulls its images, however long that takes", () => {
    const set = createSet({ state: "preparing", startingSinceMs: 0 });
    expect(unreportedAmounts(set, reportedAtMs)).toEqual(amounts(100));
  });

  it("is 0 for a set in any other state, so that its removal does not reduce the sum", () => {
    for (const state of measuredStates)
      expect(unreportedAmounts(createSet({ state }), reportedAtMs)).toEqual(amounts(0));
  });

  it("is at most the booking, and its sum is the sum over the sets", () => {
    const resources: fc.Arbitrary<Resources> = fc.record({
      cpuMillis: fc.nat(),
      memoryBytes: fc.nat(),
      volumeBytes: fc.nat(),
      rootfsBytes: fc.nat(),
    });
    const set: fc.Arbitrary<ReportedSet> = fc.record({
      state: fc.constantFrom(...states),
      booked: resources,
      used: resources,
      startingSinceMs: fc.option(fc.nat({ max: reportedAtMs }), { nil: undefined }),
    });
    fc.assert(
      fc.property(fc.array(set), (sets) => {
        const parts = sets.map((one) => unreportedAmounts(one, reportedAtMs));
        for (const dimension of dimensions) {
          for (const [i, part] of parts.entries()) {
            expect(part[dimension]).toBeGreaterThanOrEqual(0);
            expect(part[dimension]).toBeLessThanOrEqual(sets[i]?.booked[dimension] ?? 0);
          }
          const sum = parts.reduce((total, part) => total + part[dimension], 0);
          expect(sumUnreported(sets, reportedAtMs)[dimension]).toBe(sum);
        }
      }),
    );
  });
});

test("one set of 10Gi that fails to start does not keep out 22 sets of 50Mi", () => {
  const mib = 2 ** 20;
  // A disk of 20 GiB, of which the machine itself uses 7; sets may be measured up to 85%.
  const policy = policyOf({
    overcommitPercent: amounts(1_000),
    highWaterPercent: amounts(1_000, { rootfsBytes: 85 }),
  });
  const failing = createSet({
    state: "starting",
    booked: amounts(1, { rootfsBytes: 10_240 * mib }),
    used: amounts(0, { rootfsBytes: 3 * mib }),
    startingSinceMs: reportedAtMs - STARTUP_MS_MAX,
  });
  const fleet = createFleet(policy);
  fleet.upsertHost(
    hostOf("host_a", {
      allocatable: amounts(100, { rootfsBytes: 20_480 * mib }),
      allocated: failing.booked,
      reported: { used: amounts(0, { rootfsBytes: 7_168 * mib }), atMs: nowMs },
      unreported: sumUnreported([failing], reportedAtMs),
    }),
  );
  const small = Array.from({ length: 22 }, (_, i) =>
    requestOf(`set_${i}`, { resources: amounts(1, { rootfsBytes: 50 * mib }) }),
  );
  expect(planPlacements(fleet, small, { seed: 1, nowMs }).placements).toHaveLength(22);
});

function createSet(some: Partial<ReportedSet>): ReportedSet {
  return {
    state: "starting",
    booked: amounts(100),
    used: amounts(0),
    startingSinceMs: undefined,
    ...some,
  };
}
