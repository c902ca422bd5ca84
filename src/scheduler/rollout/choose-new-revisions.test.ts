import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { chooseNewRevisions, type NewSetsRollout } from "./choose-new-revisions.ts";
import { countWantedSets } from "./count-wanted-sets.ts";

const rollout: NewSetsRollout = {
  state: "running",
  isPausedByFailure: false,
  fromRevision: 1,
  toRevision: 2,
  wantedAtTarget: 5,
  atTarget: 3,
};

describe("new sets", () => {
  test("fill the share of the target first", () => {
    expect(chooseNewRevisions(3, rollout)).toEqual([
      { revision: 2, count: 2 },
      { revision: 1, count: 1 },
    ]);
    expect(chooseNewRevisions(1, rollout)).toEqual([{ revision: 2, count: 1 }]);
    expect(chooseNewRevisions(2, { ...rollout, atTarget: 9 })).toEqual([{ revision: 1, count: 2 }]);
    expect(chooseNewRevisions(0, rollout)).toEqual([]);
  });

  test("follow the step while a user pauses the rollout", () => {
    expect(chooseNewRevisions(1, { ...rollout, state: "paused" })).toEqual([
      { revision: 2, count: 1 },
    ]);
  });

  test("get the earlier revision after a failure and during a rollback", () => {
    const failed = { ...rollout, state: "paused" as const, isPausedByFailure: true };
    const returning = { ...rollout, state: "rolling-back" as const };
    for (const state of [failed, returning])
      expect(chooseNewRevisions(3, state)).toEqual([{ revision: 1, count: 3 }]);
  });

  test("never exceed the share of the target, whatever the numbers", () => {
    fc.assert(
      fc.property(fc.nat(50), fc.nat(50), fc.nat(50), (added, wantedAtTarget, atTarget) => {
        const chosen = chooseNewRevisions(added, { ...rollout, wantedAtTarget, atTarget });
        const at = (revision: number) =>
          chosen.find((candidate) => candidate.revision === revision)?.count ?? 0;
        expect(at(1) + at(2)).toBe(added);
        expect(atTarget + at(2)).toBeLessThanOrEqual(Math.max(wantedAtTarget, atTarget));
        if (at(1) > 0) expect(atTarget + at(2)).toBeGreaterThanOrEqual(wantedAtTarget);
      }),
    );
  });
});

test("a step wants a number of sets, a rounded percentage, or the sets that match", () => {
  const totals = { desired: 7, selected: 4 };
  const count = (selection: Parameters<typeof countWantedSets>[0]) =>
    countWantedSets(selection, totals);
  expect([count({ count: 3 }), count({ count: 9 })]).toEqual([3, 7]);
  expect([count({ percent: 1 }), count({ percent: 50 }), count({ percent: 100 })]).toEqual([
    1, 4, 7,
  ]);
  expect(count({ zones: ["zone_a"] })).toBe(4);
});
