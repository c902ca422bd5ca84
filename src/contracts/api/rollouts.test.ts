import { describe, expect, it } from "vitest";
import { resolveStrategy, rolloutStrategyInput } from "./rollouts.ts";

const service = { replicas: 6, minReadySeconds: 0 };
const all = { select: { percent: 100 }, promote: "auto" };
const parse = (strategy: unknown) => rolloutStrategyInput.safeParse(strategy);

describe("the strategy of a rollout", () => {
  it("updates one set, waits, and updates the others by default", () => {
    expect(resolveStrategy(null, service)).toEqual({
      method: "auto",
      steps: [{ select: { count: 1 }, promote: { afterSeconds: 10 } }, all],
      parallel: null,
      progressDeadlineSeconds: 600,
      onFailure: "pause",
      unreadySeconds: 10,
      restartsMax: 3,
    });
  });

  it("waits at least until the first set counts as available", () => {
    const { steps } = resolveStrategy(null, { replicas: 2, minReadySeconds: 90 });
    expect(steps[0]?.promote).toEqual({ afterSeconds: 90 });
  });

  it.each([0, 1])("has one step for %i replicas", (replicas) => {
    expect(resolveStrategy(null, { ...service, replicas }).steps).toEqual([all]);
  });

  it.each([
    ["a count", [{ select: { count: 2 }, promote: "manual" }]],
    ["zones", [{ select: { zones: ["a"] }, promote: { metric: "errors", max: 1 } }]],
    ["half of the sets", [{ select: { percent: 50 } }]],
  ])("ends with all sets after %s", (_what, steps) => {
    const { data } = parse({ steps });
    expect(resolveStrategy(data ?? null, service).steps).toEqual([...(data?.steps ?? []), all]);
  });

  it("has no step after one with all sets", () => {
    const { data } = parse({ steps: [{ select: { percent: 100 }, promote: "manual" }] });
    expect(resolveStrategy(data ?? null, service).steps).toEqual(data?.steps);
  });

  it.each([
    ["no step", { steps: [] }],
    ["more than 20 steps", { steps: Array.from({ length: 21 }, () => all) }],
    ["a step without sets", { steps: [{ select: { count: 0 } }] }],
    ["a step with two selections", { steps: [{ select: { count: 1, percent: 10 } }] }],
    ["more than all sets", { steps: [{ select: { percent: 101 } }] }],
    ["a metric without a bound", { steps: [{ ...all, promote: { metric: "errors" } }] }],
    [
      "bounds that no value meets",
      { steps: [{ ...all, promote: { metric: "p99", min: 2, max: 1 } }] },
    ],
    ["no set at a time", { parallel: 0 }],
    ["0% at a time", { parallel: "0%" }],
    ["an unknown method", { method: "recreate" }],
  ])("is refused with %s", (_what, strategy) => {
    expect(parse(strategy).success).toBe(false);
  });
});
