import type { UpdateDirection } from "../../contracts/api/rollouts.ts";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  budget,
  createCandidate,
  createInput,
  createRecord,
  healthyInputs,
  imageDiff,
  NOW_MS,
  strategy,
} from "../../../test/support/fleet/rollout-inputs.ts";
import { countWantedSets, selectsByNumber } from "./count-wanted-sets.ts";
import { countDisruption, mayDisrupt } from "./may-disrupt.ts";
import { planRollout } from "./plan-rollout.ts";
import type { RolloutInput } from "./rollout-input.ts";
import type { RolloutAction, RolloutPlan } from "./rollout-plan.ts";

const runs = { numRuns: 500 };

function listBegun(plan: RolloutPlan, input: RolloutInput) {
  return plan.actions.flatMap((action) => {
    const set = input.candidates.find(({ setId }) => setId === action.setId);
    return action.kind === "begin" && set ? [{ action, set }] : [];
  });
}

function kindsOf({ actions }: { actions: readonly RolloutAction[] }): string[] {
  return actions.map(({ kind }) => kind);
}

describe("for every state without a failed set", () => {
  test("sets begin within the disruption budget", () => {
    fc.assert(
      fc.property(healthyInputs, (input) => {
        const plan = planRollout(input);
        let { counts } = input;
        for (const { action, set } of listBegun(plan, input)) {
          const isInPlace = action.method !== "start-first";
          if (isInPlace && set.diff.servesDuringUpdate) continue;
          const isFirst = !isInPlace && set.isAvailable;
          const mode = isFirst ? ("replace-first" as const) : ("stop-first" as const);
          const disruption = { isAvailable: set.isAvailable, mode };
          expect(mayDisrupt(input.budget, counts, disruption)).toEqual({ ok: true });
          counts = countDisruption(counts, disruption);
        }
      }),
      runs,
    );
  });

  test("sets begin within the parallel limit", () => {
    fc.assert(
      fc.property(healthyInputs, (input) => {
        const plan = planRollout(input);
        const { parallel } = input.rollout.strategy;
        const limit = typeof parallel === "string" ? Math.ceil(input.totals.desired / 2) : parallel;
        const ended = plan.actions.filter(({ kind }) => ["end", "cancel", "drop"].includes(kind));
        const inFlight = input.open.filter(
          ({ setId }) => !ended.some((action) => action.setId === setId),
        );
        const begun = listBegun(plan, input).length;
        if (limit !== null && begun > 0)
          expect(inFlight.length + begun).toBeLessThanOrEqual(Math.max(1, limit));
      }),
      runs,
    );
  });

  test("only selected sets, sets in excess, and sets that serve nothing begin", () => {
    fc.assert(
      fc.property(healthyInputs, (input) => {
        const { state, returnsExcess, selection } = input.rollout;
        for (const { action, set } of listBegun(planRollout(input), input)) {
          const { direction } = action;
          if (state === "rolling-back") expect(direction).toBe("from");
          else if (direction === "from") expect(returnsExcess && set.at === "to").toBe(true);
          else
            expect(
              set.isSelected ||
                selectsByNumber(selection) ||
                (set.at === "other" && !set.isAvailable),
            ).toBe(true);
        }
      }),
      runs,
    );
  });

  test("no more available sets begin than the step wants at the target", () => {
    fc.assert(
      fc.property(healthyInputs, (input) => {
        const { rollout, totals, open } = input;
        fc.pre(selectsByNumber(rollout.selection) && rollout.state === "running");
        fc.pre(open.every(({ direction }) => direction === "to"));
        const inFlight = open.filter(({ at }) => at !== "to").length;
        const missing = countWantedSets(rollout.selection, totals) - totals.atTarget - inFlight;
        const begun = listBegun(planRollout(input), input).filter(
          ({ action, set }) => action.direction === "to" && set.isAvailable,
        );
        expect(begun.length).toBeLessThanOrEqual(Math.max(0, missing));
      }),
      runs,
    );
  });

  test("equal inputs have equal plans, with one action for a set", () => {
    fc.assert(
      fc.property(healthyInputs, (input) => {
        const plan = planRollout(input);
        expect(planRollout(structuredClone(input))).toEqual(plan);
        expect(new Set(plan.actions.map(({ setId }) => setId)).size).toBe(plan.actions.length);
        expect(plan.dueInMs).toBeGreaterThanOrEqual(100);
        expect(plan.dueInMs).toBeLessThanOrEqual(60_000);
      }),
      runs,
    );
  });

  test("a paused rollout changes no set", () => {
    fc.assert(
      fc.property(healthyInputs, (input) => {
        const paused: RolloutInput = { ...input, rollout: { ...input.rollout, state: "paused" } };
        const plan = planRollout(paused);
        expect(kindsOf(plan).filter((kind) => kind !== "end")).toEqual([]);
        expect(plan.prefetch).toEqual([]);
        expect(plan.next.state).toBe("paused");
      }),
      runs,
    );
  });

  test("a failed set stops everything else in the same round", () => {
    fc.assert(
      fc.property(
        healthyInputs,
        fc.constantFrom("pause" as const, "rollback" as const),
        (input, onFailure) => {
          const { rollout } = input;
          const returns = rollout.state === "rolling-back" && rollout.kind === "update";
          const direction: UpdateDirection = returns ? "from" : "to";
          const broken = createRecord("set_z", { direction, updated: { state: "failed" } });
          const plan = planRollout({
            ...input,
            rollout: { ...rollout, strategy: { ...rollout.strategy, onFailure } },
            open: [...input.open, { ...broken, at: direction }],
          });
          expect(kindsOf(plan).filter((kind) => kind !== "end")).toEqual([]);
          const stopped = onFailure === "pause" ? "paused" : "rolling-back";
          expect(plan.next.state).toBe(rollout.state === "rolling-back" ? "failed" : stopped);
          expect(plan.next.failure?.first).toEqual({ setId: "set_z", cause: "gave-up", limit: 0 });
        },
      ),
      runs,
    );
  });

  test("a completed rollout has each set available at the target", () => {
    fc.assert(
      fc.property(healthyInputs, (input) => {
        const { next, actions } = planRollout(input);
        if (next.state !== "completed") return;
        expect(input.totals.availableAtTarget).toBeGreaterThanOrEqual(input.totals.desired);
        expect(input.open).toEqual([]);
        expect(actions).toEqual([]);
      }),
      runs,
    );
  });
});

describe("a broken revision", () => {
  test("never blocks the one that repairs it, even if the budget is used up", () => {
    const operation = { phase: "updating", owner: "rollout", leadsTo: "other" } as const;
    const input = createInput(
      { replicas: 4 },
      {
        counts: { desired: 4, live: 4, available: 1, notExpected: 0, surging: 1 },
        candidates: [
          createCandidate("set_a"),
          createCandidate("set_b", { at: "other", isAvailable: false }),
          createCandidate("set_c", { at: "other", isAvailable: false, operation }),
          createCandidate("set_d", { operation: { ...operation, phase: "replacing" } }),
        ],
      },
    );
    const { actions, waitsFor } = planRollout({ ...input, budget: { ...budget, maxSurge: 1 } });
    expect(actions).toEqual([
      { kind: "begin", setId: "set_b", direction: "to", method: "in-place" },
      { kind: "turn", setId: "set_c", direction: "to" },
      { kind: "drop", setId: "set_d" },
    ]);
    expect(waitsFor).toBe("max-surge");
  });

  test("sets that it stopped are repaired even beyond the selection of the step", () => {
    const plan = planRollout(
      createInput(
        { replicas: 4, atTarget: 1 },
        {
          rollout: { step: 0, selection: { count: 1 } },
          candidates: [
            createCandidate("set_a", { at: "other", isAvailable: false }),
            createCandidate("set_b", { at: "other" }),
          ],
        },
      ),
    );
    expect(plan.actions.map(({ setId }) => setId)).toEqual(["set_a"]);
  });
});

describe("the images of a set", () => {
  const inPlace = { ...strategy, method: "in-place" as const };

  test("are pulled before the set begins, once for each host", () => {
    const host = { id: "host_a", state: "ready" as const, isDraining: false };
    const candidates = ["set_a", "set_b"].map((id) =>
      createCandidate(id, { host, images: { state: "missing" } }),
    );
    const plan = planRollout(
      createInput({ replicas: 2 }, { rollout: { strategy: inPlace }, candidates }),
    );
    expect(plan).toMatchObject({
      actions: [],
      prefetch: [{ hostId: "host_a", direction: "to" }],
      next: { phase: "preparing" },
      waitsFor: "images",
    });
  });

  test("are needed neither for a replacement nor for a change without another image", () => {
    const missing = { images: { state: "missing" as const } };
    const replaced = [createCandidate("set_a", missing)];
    const changed = [
      createCandidate("set_a", { ...missing, diff: { ...imageDiff, changesImages: false } }),
    ];
    expect(kindsOf(planRollout(createInput({ replicas: 1 }, { candidates: replaced })))).toEqual([
      "begin",
    ]);
    expect(
      kindsOf(
        planRollout(
          createInput({ replicas: 1 }, { rollout: { strategy: inPlace }, candidates: changed }),
        ),
      ),
    ).toEqual(["begin"]);
  });

  test("pause the rollout before anything stops if a host cannot pull them", () => {
    const plan = (images: { state: "failed" } | { state: "requested"; atMs: number }) =>
      planRollout(
        createInput(
          { replicas: 1 },
          {
            rollout: { strategy: inPlace, stepBeganAtMs: 0 },
            candidates: [createCandidate("set_a", { images })],
          },
        ),
      );
    expect(plan({ state: "failed" })).toMatchObject({
      actions: [],
      next: { state: "paused", failure: { first: { cause: "images", limit: 0 } } },
    });
    expect(plan({ state: "requested", atMs: NOW_MS - 600_000 }).next.failure?.first.limit).toBe(
      600,
    );
    expect(plan({ state: "requested", atMs: NOW_MS - 570_000 })).toMatchObject({
      next: { state: "running" },
      dueInMs: 30_000,
    });
  });
});

describe("a rollback", () => {
  const back = { state: "rolling-back" as const };
  const record = (phase: "waiting" | "replacing" | "updating" | "leaving", facts = {}) =>
    createRecord(`set_${phase}`, {
      operation: { phase, owner: "rollout", leadsTo: "to" },
      ...facts,
    });

  test("cancels, drops and turns what has not ended", () => {
    const open = [record("waiting"), record("replacing"), record("updating"), record("leaving")];
    const plan = planRollout(createInput({ replicas: 4, atTarget: 4 }, { rollout: back, open }));
    expect(plan.actions).toEqual([
      { kind: "cancel", setId: "set_waiting" },
      { kind: "drop", setId: "set_replacing" },
      { kind: "turn", setId: "set_updating", direction: "from" },
    ]);
    expect(plan.next).toMatchObject({ state: "rolling-back", phase: "returning" });
  });

  test("ends records whose operation has ended, and returns their sets next", () => {
    const open = [
      createRecord("set_a", { operation: undefined }),
      createRecord("set_b", { updated: { isDeleted: true } }),
    ];
    const plan = planRollout(createInput({ replicas: 2, atTarget: 1 }, { rollout: back, open }));
    expect(plan.actions).toEqual([
      { kind: "end", setId: "set_a", outcome: "canceled" },
      { kind: "end", setId: "set_b", outcome: "lost" },
    ]);
    expect(plan.dueInMs).toBe(100);
  });

  test("undoes nothing of a restart, and cancels what has not begun", () => {
    const open = [record("waiting"), record("replacing"), record("updating")];
    const restart = { ...back, kind: "restart" as const };
    const input = createInput({ replicas: 3, atTarget: 1 }, { rollout: restart, open });
    expect(kindsOf(planRollout(input))).toEqual(["cancel", "drop"]);
    const operation = { phase: "updating", owner: "rollout", leadsTo: "to" } as const;
    const candidates = [createCandidate("set_a", { operation })];
    const ended = planRollout({ ...input, open: [], candidates });
    expect(ended).toMatchObject({ actions: [], next: { state: "rolled-back" } });
  });

  test("ends once no set is at the target or at a third revision", () => {
    const plan = (atTarget: number, atOther: number) => {
      const input = createInput({ replicas: 4, atTarget }, { rollout: back });
      return planRollout({ ...input, totals: { ...input.totals, atOther } }).next.state;
    };
    expect([plan(0, 0), plan(1, 0), plan(0, 1)]).toEqual([
      "rolled-back",
      "rolling-back",
      "rolling-back",
    ]);
  });

  test("returns sets at a third revision, and stopped ones", () => {
    const candidates = [
      createCandidate("set_a", { at: "other" }),
      createCandidate("set_b", { at: "to", isStopped: true, isAvailable: false }),
    ];
    const { actions } = planRollout(createInput({ replicas: 2 }, { rollout: back, candidates }));
    expect(
      actions.map((action) => [action.kind, "direction" in action && action.direction]),
    ).toEqual([
      ["assign", "from"],
      ["begin", "from"],
    ]);
  });
});

describe("a promotion to fewer sets", () => {
  const down = { selection: { count: 1 }, returnsExcess: true };

  test("returns the sets beyond the selection", () => {
    const candidates = ["set_a", "set_b", "set_c"].map((id) => createCandidate(id, { at: "to" }));
    const plan = planRollout(
      createInput({ replicas: 4, atTarget: 3 }, { rollout: down, candidates }),
    );
    expect(plan.actions).toMatchObject([{ setId: "set_a", direction: "from" }]);
    expect(plan).toMatchObject({ waitsFor: "max-surge", next: { phase: "returning" } });
  });

  test("turns the sets beyond it that are changing", () => {
    const open = ["set_a", "set_b"].map((id) => createRecord(id));
    const plan = planRollout(createInput({ replicas: 4, atTarget: 2 }, { rollout: down, open }));
    expect(plan.actions).toEqual([{ kind: "turn", setId: "set_a", direction: "from" }]);
  });

  test("to zones returns the sets of other zones", () => {
    const zones = { selection: { zones: ["zone_a"] }, returnsExcess: true };
    const candidates = [
      createCandidate("set_a", { at: "to", isSelected: false }),
      createCandidate("set_b", { at: "from", isSelected: false }),
    ];
    const open = [
      createRecord("set_c", { isSelected: false }),
      createRecord("set_d", { direction: "from", at: "from" }),
    ];
    const input = createInput({ replicas: 4, atTarget: 2 }, { rollout: zones, candidates, open });
    expect(planRollout(input).actions).toMatchObject([
      { kind: "turn", setId: "set_c", direction: "from" },
      { kind: "turn", setId: "set_d", direction: "to" },
      { kind: "begin", setId: "set_a", direction: "from" },
    ]);
    const stays = { ...input, open: [], rollout: { ...input.rollout, returnsExcess: false } };
    expect(planRollout(stays).actions).toEqual([]);
  });

  test("can be reverted, which turns the sets that return", () => {
    const returning = createRecord("set_a", { direction: "from", at: "from" });
    const rollout = { selection: { count: 2 } };
    const input = createInput({ replicas: 4, atTarget: 1 }, { rollout, open: [returning] });
    expect(planRollout(input).actions).toEqual([{ kind: "turn", setId: "set_a", direction: "to" }]);
    const enough = { ...input, totals: { ...input.totals, atTarget: 2 } };
    expect(planRollout(enough).actions).toEqual([]);
  });
});

describe("a step", () => {
  const first = { step: 0, selection: { count: 1 } };

  test("is reached once its sets are available, and then soaks", () => {
    const input = createInput({ replicas: 4, atTarget: 1 }, { rollout: first });
    expect(planRollout(input)).toMatchObject({
      next: { step: 0, phase: "soaking", gateSinceMs: NOW_MS },
      waitsFor: "promotion",
      dueInMs: 10_000,
    });
    const soaked = { ...input, rollout: { ...input.rollout, gateSinceMs: NOW_MS - 10_000 } };
    expect(planRollout(soaked).next).toMatchObject({
      step: 1,
      selection: { percent: 100 },
      stepBeganAtMs: NOW_MS,
      gateSinceMs: undefined,
    });
  });

  test("is not reached while a set at the target is not available", () => {
    const set = {
      setId: "set_a",
      wasReady: true,
      unreadySinceMs: NOW_MS - 1_000,
      readySinceMs: undefined,
      placedAtMs: 0,
    };
    const input = createInput(
      { replicas: 4, atTarget: 2 },
      { rollout: { ...first, stepBeganAtMs: 0 } },
    );
    const plan = (hostReadySinceMs: number | undefined) =>
      planRollout({ ...input, unhealthy: [{ ...set, hostReadySinceMs }] });
    expect(plan(0)).toMatchObject({
      waitsFor: "readiness",
      next: { gateSinceMs: undefined },
      dueInMs: 9_000,
    });
    expect(plan(undefined).waitsFor).toBe("promotion");
    const totals = { ...input.totals, availableAtTarget: 0 };
    expect(planRollout({ ...input, totals }).waitsFor).toBe("readiness");
  });

  test("by zone is reached once each selected set is available", () => {
    const rollout = { step: 0, selection: { zones: ["zone_a"] } };
    const input = createInput({ replicas: 4, atTarget: 4 }, { rollout });
    const plan = (selectedAvailableAtTarget: number) =>
      planRollout({
        ...input,
        totals: { ...input.totals, selected: 2, selectedAvailableAtTarget },
      });
    expect([plan(1).waitsFor, plan(2).waitsFor]).toEqual(["readiness", "promotion"]);
  });

  test("waits for sets that do not exist yet", () => {
    const plan = planRollout(createInput({ replicas: 4, atTarget: 3 }));
    expect(plan).toMatchObject({ waitsFor: "readiness", next: { state: "running" } });
  });

  test("shows whether it waits for a user, updates or soaks", () => {
    const manual = { ...strategy, steps: [{ select: { count: 1 }, promote: "manual" as const }] };
    const input = createInput(
      { replicas: 4, atTarget: 1 },
      { rollout: { ...first, strategy: manual } },
    );
    expect(planRollout(input).next.phase).toBe("awaiting-promotion");
    const open = [createRecord("set_a")];
    expect(planRollout({ ...input, open }).next.phase).toBe("updating");
    const paused = { ...input, open, rollout: { ...input.rollout, state: "paused" as const } };
    expect(planRollout(paused).next.phase).toBe("updating");
    expect(planRollout({ ...paused, open: [] }).next.phase).toBe("soaking");
  });

  test("a service without replicas completes immediately", () => {
    expect(planRollout(createInput({ replicas: 0 })).next.state).toBe("completed");
  });
});
