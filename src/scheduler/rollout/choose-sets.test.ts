import { describe, expect, test } from "vitest";
import {
  createCandidate,
  createInput,
  createRecord,
  imageDiff,
  strategy,
} from "../../../test/support/fleet/rollout-inputs.ts";
import { planRollout } from "./plan-rollout.ts";
import type { RolloutAction } from "./rollout-plan.ts";

function kindsOf({ actions }: { actions: readonly RolloutAction[] }): string[] {
  return actions.map(({ kind }) => kind);
}

describe("a set that cannot begin", () => {
  test("waits with the reason, while the others begin", () => {
    const lost = { id: "host_l", state: "lost" as const, isDraining: false };
    const waits = (facts: Parameters<typeof createCandidate>[1], changes = {}) =>
      planRollout(
        createInput({ replicas: 2 }, { candidates: [createCandidate("set_a", facts)], ...changes }),
      ).waitsFor;
    expect(waits({ host: lost })).toBe("hosts");
    expect(waits({ operation: { phase: "waiting", owner: "drain", leadsTo: "from" } })).toBe(
      "operations",
    );
    expect(waits({ operation: { phase: "leaving", owner: "rollout", leadsTo: "other" } })).toBe(
      "operations",
    );
    const volume = { level: "set-level", setMembers: ["volume"], needsNewSet: "volume" } as const;
    expect(waits({ hasVolume: true, diff: { ...imageDiff, ...volume } })).toBe("method");
    const one = { rollout: { strategy: { ...strategy, parallel: 1 } } };
    expect(waits({}, { ...one, open: [createRecord("set_o")] })).toBe("parallel");
    const down = { desired: 2, live: 2, available: 1, notExpected: 0, surging: 0 };
    expect(waits({ hasVolume: true }, { counts: down })).toBe("max-unavailable");
    expect(waits({ at: "to" })).toBe("readiness");
  });

  test("gets the revision without an operation if no host runs it", () => {
    const { actions } = planRollout(
      createInput(
        { replicas: 2 },
        {
          candidates: [
            createCandidate("set_a", { isStopped: true }),
            createCandidate("set_b", { host: undefined, isAvailable: false }),
          ],
        },
      ),
    );
    expect(actions).toEqual([
      { kind: "assign", setId: "set_b", direction: "to" },
      { kind: "assign", setId: "set_a", direction: "to" },
    ]);
  });

  test("is not counted by a step if a user stopped it", () => {
    const candidates = [createCandidate("set_a", { isStopped: true, isAvailable: false })];
    const input = createInput(
      { replicas: 2 },
      { rollout: { step: 0, selection: { count: 1 } }, candidates },
    );
    expect(planRollout(input).actions).toEqual([]);
  });

  test("changes in place if no host takes its replacement and the user left the choice to Berth", () => {
    const open = [
      createRecord("set_a", {
        method: "start-first",
        at: "from",
        isAvailable: true,
        operation: { phase: "waiting", owner: "rollout", leadsTo: "to" },
        isHeld: true,
        beganAtMs: undefined,
      }),
    ];
    const plan = (method: "auto" | "start-first", facts = {}) =>
      planRollout(
        createInput(
          { replicas: 1 },
          {
            rollout: { strategy: { ...strategy, method } },
            open: open.map((record) => ({ ...record, ...facts })),
          },
        ),
      );
    const { actions } = plan("auto");
    expect(actions).toEqual([{ kind: "switch", setId: "set_a", method: "in-place" }]);
    expect(plan("start-first").actions).toEqual([]);
    expect(plan("auto", { images: { state: "missing" } })).toMatchObject({
      actions: [],
      prefetch: [{ hostId: "host_of_set_a" }],
    });
    expect(plan("auto", { images: { state: "missing" }, hostId: undefined }).prefetch).toEqual([]);
    expect(kindsOf(plan("auto", { method: "in-place" }))).toEqual([]);
    expect(kindsOf(plan("auto", { diff: { ...imageDiff, servesDuringUpdate: true } }))).toEqual([
      "switch",
    ]);
  });
});

describe("a resume", () => {
  const failed = { phase: "updating", owner: "rollout", leadsTo: "to" } as const;

  test("orders a failed set again, and gives its replacement more time", () => {
    const candidates = [
      createCandidate("set_a", { at: "to", isAvailable: false, operation: failed }),
      createCandidate("set_b", { operation: { ...failed, phase: "replacing" } }),
    ];
    expect(planRollout(createInput({ replicas: 2, atTarget: 1 }, { candidates })).actions).toEqual([
      { kind: "turn", setId: "set_a", direction: "to" },
      { kind: "adopt", setId: "set_b", direction: "to" },
    ]);
  });

  test("turns a set that serves only within the budget", () => {
    const set = createCandidate("set_a", { at: "to", operation: failed });
    const counts = { desired: 2, live: 2, available: 1, notExpected: 0, surging: 0 };
    const input = createInput({ replicas: 2, atTarget: 1 }, { candidates: [set], counts });
    expect(planRollout(input)).toMatchObject({ actions: [], waitsFor: "max-unavailable" });
    const optional = { ...set, diff: { ...imageDiff, servesDuringUpdate: true } };
    expect(kindsOf(planRollout({ ...input, candidates: [optional] }))).toEqual(["turn"]);
  });
});

test("a set is either a candidate or has an open record", () => {
  const input = createInput(
    { replicas: 1 },
    { candidates: [createCandidate("set_a")], open: [createRecord("set_a")] },
  );
  expect(() => planRollout(input)).toThrow("a set is a candidate or has a record");
});

test("no set begins beyond the number of open records that a round can read", () => {
  const open = (count: number) =>
    Array.from({ length: count }, (_, position) => createRecord(`set_o${position}`));
  const operation = { phase: "updating", owner: "rollout", leadsTo: "other" } as const;
  const candidates = [
    createCandidate("set_a", { at: "other", isAvailable: false, operation }),
    createCandidate("set_b", { isAvailable: false }),
    createCandidate("set_c", { operation: { ...operation, phase: "replacing", leadsTo: "to" } }),
  ];
  const plan = (count: number) =>
    planRollout(
      createInput({ replicas: 1_000, atTarget: count }, { open: open(count), candidates }),
    );
  expect(kindsOf(plan(397))).toEqual(["turn", "begin", "adopt"]);
  expect(kindsOf(plan(398))).toEqual(["turn", "begin"]);
  expect(kindsOf(plan(399))).toEqual(["turn"]);
  expect(plan(400)).toMatchObject({ actions: [], waitsFor: "parallel" });
});

test("a set that serves returns only within the budget", () => {
  const open = [createRecord("set_a", { isAvailable: true })];
  const counts = { desired: 2, live: 2, available: 1, notExpected: 0, surging: 0 };
  const rollout = { state: "rolling-back" as const };
  const input = createInput({ replicas: 2, atTarget: 1 }, { rollout, open, counts });
  expect(planRollout(input)).toMatchObject({ actions: [], waitsFor: "max-unavailable" });
  const healthy = { ...input, counts: { ...counts, available: 2 } };
  expect(kindsOf(planRollout(healthy))).toEqual(["turn"]);
});

describe("a set that a user stops during its update", () => {
  const operation = (phase: "waiting" | "replacing" | "updating") =>
    ({ phase, owner: "rollout", leadsTo: "to" }) as const;

  test("ends its record, and the rollout does not complete in the same round", () => {
    const open = [createRecord("set_a", { isStopped: true })];
    const input = createInput({ replicas: 0 }, { open });
    expect(planRollout(input)).toMatchObject({
      actions: [{ kind: "end", setId: "set_a", outcome: "canceled" }],
      next: { state: "running" },
      dueInMs: 100,
    });
  });

  test("ends its operation, and then gets the revision without another one", () => {
    const candidates = (["waiting", "replacing", "updating"] as const).map((phase) =>
      createCandidate(`set_${phase}`, {
        isStopped: true,
        isAvailable: false,
        operation: operation(phase),
      }),
    );
    expect(planRollout(createInput({ replicas: 0 }, { candidates })).actions).toEqual([
      { kind: "cancel", setId: "set_waiting" },
      { kind: "drop", setId: "set_replacing" },
      { kind: "cancel", setId: "set_updating" },
    ]);
  });
});
