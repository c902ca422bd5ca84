import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { DisruptionBudget } from "../../contracts/api/disruption-budget.ts";
import {
  countDisruption,
  disruptionAllowance,
  mayDisrupt,
  permitsSurge,
  type ReplicaCounts,
} from "./may-disrupt.ts";

const defaults: DisruptionBudget = { maxUnavailable: 1, maxSurge: "25%", minReadySeconds: 0 };
const healthy = (desired: number): ReplicaCounts => ({
  desired,
  live: desired,
  available: desired,
  notExpected: 0,
  surging: 0,
});

describe("the default budget", () => {
  test("allows one stopped set and a quarter of the service as surge", () => {
    expect(disruptionAllowance(defaults, healthy(10))).toEqual({ unavailable: 1, surge: 3 });
  });

  test("allows the only set of a service to be disrupted", () => {
    expect(disruptionAllowance(defaults, healthy(1))).toEqual({ unavailable: 1, surge: 1 });
  });

  test("allows nothing more while one set is down", () => {
    const verdict = mayDisrupt(
      defaults,
      { ...healthy(10), available: 9 },
      { isAvailable: true, mode: "stop-first" },
    );
    expect(verdict).toEqual({ ok: false, reason: "max-unavailable", limit: 1, inUse: 1 });
  });

  test("is not used up by a set that was never ready", () => {
    const counts = { desired: 11, live: 11, available: 10, notExpected: 1, surging: 0 };
    expect(disruptionAllowance(defaults, counts).unavailable).toBe(1);
  });

  test("lets a set that serves nothing stop even when the budget is used up", () => {
    const counts = { ...healthy(10), available: 5 };
    expect(mayDisrupt(defaults, counts, { isAvailable: false, mode: "stop-first" })).toEqual({
      ok: true,
    });
  });

  test("lets a scale-in remove as many ready sets as are above the new size", () => {
    const counts = { ...healthy(10), desired: 4 };
    expect(disruptionAllowance(defaults, counts).unavailable).toBe(7);
  });
});

test("stopped sets beyond the size of the service do not lower the floor of moves and removals", () => {
  const counts = { desired: 5, live: 10, available: 5, notExpected: 5, surging: 0 };
  expect(disruptionAllowance(defaults, counts).unavailable).toBe(1);
  const removal = { isAvailable: true, mode: "remove" as const };
  expect(mayDisrupt(defaults, counts, removal).ok).toBe(true);
  const next = { ...counts, live: 9, available: 4 };
  expect(mayDisrupt(defaults, next, removal).ok).toBe(false);
});

test("a set that counts as available too early makes no count negative", () => {
  const counts = { ...healthy(2), available: 0 };
  const after = countDisruption(counts, { isAvailable: true, mode: "remove" });
  expect(mayDisrupt(defaults, after, { isAvailable: true, mode: "remove" }).ok).toBe(false);
});

test("sets that serve for less than minReadySeconds stop only while the others meet the budget", () => {
  const young = { isAvailable: true, isYoung: true, mode: "stop-first" as const };
  expect(mayDisrupt(defaults, { ...healthy(4), available: 0 }, young).ok).toBe(false);
  expect(mayDisrupt(defaults, { ...healthy(4), available: 2 }, young).ok).toBe(false);
  const others = { ...healthy(4), available: 3 };
  expect(mayDisrupt(defaults, others, young)).toEqual({ ok: true });
  expect(countDisruption(others, young)).toEqual(others);
  // The only set of a service has no others.
  expect(mayDisrupt(defaults, { ...healthy(1), available: 0 }, young)).toEqual({ ok: true });
});

test("zero percent forbids every stop, one percent allows one", () => {
  const budget = (maxUnavailable: string): DisruptionBudget => ({ ...defaults, maxUnavailable });
  expect(disruptionAllowance(budget("0%"), healthy(50)).unavailable).toBe(0);
  expect(disruptionAllowance(budget("1%"), healthy(50)).unavailable).toBe(1);
  expect(disruptionAllowance(budget("10%"), healthy(50)).unavailable).toBe(5);
});

const limit = fc.oneof(
  fc.integer({ min: 0, max: 50 }),
  fc.integer({ min: 0, max: 100 }).map((percent) => `${percent}%`),
);
const budgets: fc.Arbitrary<DisruptionBudget> = fc.record({
  maxUnavailable: limit,
  maxSurge: limit,
  minReadySeconds: fc.constant(0),
});
const services: fc.Arbitrary<ReplicaCounts> = fc
  .record({
    available: fc.nat(60),
    notExpected: fc.nat(20),
    down: fc.nat(20),
    surging: fc.nat(10),
  })
  .map(({ available, notExpected, down, surging }) => ({
    desired: available + notExpected + down,
    live: available + notExpected + down,
    available,
    notExpected,
    surging,
  }));
const mode = fc.constantFrom("replace-first" as const, "stop-first" as const, "remove" as const);

describe("for every budget and service", () => {
  test("disruptions that were allowed never exceed the budget", () => {
    fc.assert(
      fc.property(budgets, services, fc.array(mode, { maxLength: 200 }), (budget, start, modes) => {
        const before = disruptionAllowance(budget, start);
        let counts = start;
        for (const next of modes) {
          const set = { isAvailable: counts.available > 0, mode: next };
          if (mayDisrupt(budget, counts, set).ok) counts = countDisruption(counts, set);
        }
        expect(start.available - counts.available).toBeLessThanOrEqual(before.unavailable);
        expect(counts.surging - start.surging).toBeLessThanOrEqual(before.surge);
        expect(counts.available).toBeGreaterThanOrEqual(0);
      }),
    );
  });

  test("one more set that was never ready does not reduce the budget of the others", () => {
    // A number does not depend on the size of the service, so the two services compare.
    fc.assert(
      fc.property(fc.nat(20), fc.nat(20), services, (maxUnavailable, maxSurge, counts) => {
        const budget = { maxUnavailable, maxSurge, minReadySeconds: 0 };
        const more = {
          ...counts,
          desired: counts.desired + 1,
          live: counts.live + 1,
          notExpected: counts.notExpected + 1,
        };
        expect(disruptionAllowance(budget, more)).toEqual(disruptionAllowance(budget, counts));
      }),
    );
  });

  test("one more unavailable set allows no additional disruption", () => {
    fc.assert(
      fc.property(budgets, services, (budget, counts) => {
        fc.pre(counts.available > 0);
        const worse = { ...counts, available: counts.available - 1 };
        expect(disruptionAllowance(budget, worse).unavailable).toBeLessThanOrEqual(
          disruptionAllowance(budget, counts).unavailable,
        );
      }),
    );
  });
});

test("a budget without surge never permits a second set beside the replaced one", () => {
  const permits = ([0, "0%", 1, "25%"] as const).map((maxSurge) =>
    permitsSurge({ ...defaults, maxSurge }),
  );
  expect(permits).toEqual([false, false, true, true]);
});
