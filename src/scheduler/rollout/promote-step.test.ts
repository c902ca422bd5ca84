import type { RolloutPromotion } from "../../contracts/api/rollouts.ts";
import { describe, expect, test } from "vitest";
import { createFacts, NOW_MS, strategy } from "../../../test/support/fleet/rollout-inputs.ts";
import { promoteStep } from "./promote-step.ts";
import type { RolloutFacts } from "./rollout-input.ts";

function promote(promotion: RolloutPromotion, facts: Partial<RolloutFacts> = {}) {
  const steps = [
    { select: { count: 1 }, promote: promotion },
    { select: { percent: 10 }, promote: "auto" as const },
    { select: { percent: 99 }, promote: "auto" as const },
  ];
  return promoteStep(
    createFacts({ step: 0, selection: { count: 1 }, strategy: { ...strategy, steps }, ...facts }),
    NOW_MS,
  );
}

const ago = (seconds: number) => NOW_MS - seconds * 1_000;
const next = { kind: "next-step", step: 1, selection: { percent: 10 } };

describe("a step that is reached", () => {
  test("is followed by the next one, and the last one is the whole service", () => {
    expect(promote("auto")).toEqual(next);
    expect(promote("auto", { step: 1, selection: { percent: 10 } })).toEqual({
      kind: "next-step",
      step: 2,
      selection: { percent: 100 },
    });
    expect(promote("auto", { step: 2, selection: { percent: 100 } })).toEqual({ kind: "complete" });
    expect(promote("auto", { step: 9, selection: { percent: 100 } })).toEqual({ kind: "complete" });
  });

  test("waits for a user, even after a promotion to fewer sets", () => {
    const wait = { kind: "wait", isManual: true, gateSinceMs: NOW_MS, nextMs: Infinity };
    expect(promote("manual")).toEqual(wait);
    expect(promote("auto", { step: 2, selection: { percent: 20 } })).toEqual(wait);
    expect(promote("manual", { gateSinceMs: ago(5) })).toMatchObject({ gateSinceMs: ago(5) });
  });

  test("waits for its soak time", () => {
    const soak = { afterSeconds: 10 };
    expect(promote(soak)).toMatchObject({ gateSinceMs: NOW_MS, nextMs: NOW_MS + 10_000 });
    expect(promote(soak, { gateSinceMs: ago(9) })).toMatchObject({ nextMs: NOW_MS + 1_000 });
    expect(promote(soak, { gateSinceMs: ago(10) })).toEqual(next);
  });
});

describe("a metric", () => {
  const errors = { metric: "errors", max: 5, min: 1, forSeconds: 30, staleSeconds: 60 };
  const facts = (value: number, atMs: number, gateSinceMs?: number): Partial<RolloutFacts> => ({
    measurement: { value, atMs, withinSinceMs: ago(90) },
    gateSinceMs,
    stepBeganAtMs: ago(100),
  });

  test("promotes after good values for long enough, with one since the first", () => {
    expect(promote(errors, facts(3, ago(1)))).toMatchObject({ gateSinceMs: NOW_MS });
    expect(promote(errors, facts(3, ago(1), ago(29)))).toMatchObject({ nextMs: NOW_MS + 1_000 });
    expect(promote(errors, facts(3, ago(1), ago(30)))).toEqual(next);
    expect(promote(errors, facts(3, ago(40), ago(30)))).toMatchObject({
      kind: "wait",
      nextMs: NOW_MS + 20_001,
    });
  });

  test("begins its time again without a good and recent value", () => {
    const bad = [
      facts(6, ago(1), ago(30)),
      facts(0, ago(1), ago(30)),
      facts(3, ago(61), ago(30)),
      { ...facts(3, ago(1), ago(30)), stepBeganAtMs: ago(0.5) },
      { gateSinceMs: ago(30) },
    ];
    for (const state of bad) {
      expect(promote(errors, state)).toEqual({
        kind: "wait",
        isManual: false,
        isOpen: false,
        gateSinceMs: undefined,
        nextMs: Infinity,
      });
    }
  });

  test("begins its time again if a value was outside of its limits between two rounds", () => {
    const left = (withinSinceMs: number | undefined) =>
      promote(errors, {
        ...facts(3, ago(1), ago(30)),
        measurement: { value: 3, atMs: ago(1), withinSinceMs },
      });
    expect(left(ago(10))).toMatchObject({ gateSinceMs: ago(10), nextMs: NOW_MS + 20_000 });
    expect(left(undefined)).toMatchObject({ gateSinceMs: NOW_MS });
  });

  test("may have one limit only", () => {
    const { max: _max, min: _min, ...open } = errors;
    expect(promote(open, facts(1e9, ago(1), ago(30)))).toEqual(next);
  });
});
