import { describe, expect, test } from "vitest";
import { imageDiff } from "../../../test/support/fleet/rollout-inputs.ts";
import { chooseFallback, chooseMethod, type MethodFacts } from "./choose-method.ts";
import type { TemplateDiff } from "./compare-templates.ts";

const plain: MethodFacts = {
  hasVolume: false,
  hasStaticAddress: false,
  permitsSurge: true,
  isAvailable: true,
  isHostDraining: false,
};
const setLevel: TemplateDiff = { ...imageDiff, level: "set-level", setMembers: ["sysctls"] };
const restart: TemplateDiff = { ...imageDiff, level: "set-level", setMembers: [] };
const networks: TemplateDiff = { ...setLevel, setMembers: ["networks"], needsNewSet: "networks" };
const live: TemplateDiff = { ...imageDiff, level: "live", containers: [] };

describe("the method of a set", () => {
  test("interrupts nothing by default, and is in place on request", () => {
    const choose = (requested: "auto" | "start-first" | "in-place", diff: TemplateDiff) =>
      chooseMethod(requested, diff, plain);
    expect(choose("auto", imageDiff)).toEqual({
      ok: true,
      method: "start-first",
      because: "interrupts-nothing",
    });
    expect(choose("start-first", imageDiff)).toMatchObject({ because: "requested" });
    expect(choose("in-place", imageDiff)).toMatchObject({
      method: "in-place",
      because: "requested",
    });
    expect(choose("in-place", setLevel)).toMatchObject({
      method: "start-first",
      because: "set-level",
    });
    expect(choose("in-place", restart)).toMatchObject({ method: "in-place-all" });
    expect(choose("auto", live)).toMatchObject({ method: "in-place", because: "nothing-restarts" });
    expect(choose("auto", networks)).toMatchObject({ method: "start-first", because: "set-level" });
  });

  test("is in place where two sets cannot exist together", () => {
    const obstacles = [
      [{ hasVolume: true }, "volume"],
      [{ hasStaticAddress: true }, "static-address"],
      [{ permitsSurge: false }, "no-surge"],
      [{ isAvailable: false }, "not-available"],
      [{ hasVolume: true, isHostDraining: true }, "volume"],
    ] as const;
    for (const [facts, because] of obstacles) {
      for (const requested of ["auto", "start-first", "in-place"] as const) {
        const choose = (diff: TemplateDiff) =>
          chooseMethod(requested, diff, { ...plain, ...facts });
        expect(choose(imageDiff)).toEqual({ ok: true, method: "in-place", because });
        expect(choose(setLevel)).toEqual({ ok: true, method: "in-place-all", because });
      }
    }
  });

  test("is refused for a change that only another set can have", () => {
    expect(chooseMethod("auto", networks, { ...plain, hasVolume: true })).toEqual({
      ok: false,
      member: "networks",
      because: "volume",
    });
    expect(chooseMethod("auto", networks, { ...plain, isAvailable: false })).toMatchObject({
      ok: true,
      method: "start-first",
    });
  });

  test("is a replacement elsewhere on a draining host", () => {
    const draining = { ...plain, isHostDraining: true };
    expect(chooseMethod("in-place", live, draining)).toMatchObject({ because: "host-draining" });
  });
});

test("a set that no host takes changes in place, unless the user or the change excludes that", () => {
  expect(chooseFallback("auto", imageDiff)).toBe("in-place");
  expect(chooseFallback("auto", setLevel)).toBe("in-place-all");
  expect(chooseFallback("start-first", imageDiff)).toBeUndefined();
  expect(chooseFallback("auto", networks)).toBeUndefined();
});
