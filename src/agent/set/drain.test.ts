import { describe, expect, it } from "vitest";
import { localSet } from "../../../test/support/agent/local-set.ts";
import { observedSet } from "../../../test/support/fleet/observed-set.ts";
import { computeDrainMs, findDrainedAtMs, newReadiness, noteReadiness } from "./drain.ts";

const ports = [{ name: "http", port: 80 }];
const nowMs = 100_000;

it.each([
  ["3 s for a set with ports", { ports }, 3_000],
  ["nothing for a set without ports", {}, 0],
  ["that of the template", { ports, drainSeconds: 20 }, 20_000],
  ["nothing if the template says so", { ports, drainSeconds: 0 }, 0],
])("the drain time is %s", (_what, template, drainMs) => {
  expect(computeDrainMs(localSet({ template }))).toBe(drainMs);
});

describe("a container of a set with ports may stop", () => {
  const set = localSet({ names: ["app", "log"], template: { ports } });
  const up = observedSet(set, { app: "running", log: "running" });
  const reported = (isReady: boolean[]) => {
    const readiness = newReadiness();
    isReady.forEach((ready, position) =>
      noteReadiness(readiness, set, up, { isReady: ready, nowMs: nowMs + position * 1_000 }),
    );
    return readiness;
  };

  it("its drain time after the first report that it is not ready", () => {
    expect(findDrainedAtMs(set, up, reported([true]), nowMs)).toBe(nowMs + 3_000);
    const left = reported([true, false, false]);
    expect(findDrainedAtMs(set, up, left, nowMs + 2_500)).toBe(nowMs + 4_000);
  });

  it("immediately if it never was ready, or if nothing of it runs", () => {
    const down = observedSet(set, { app: "exited 0", log: "created" });
    const starting = newReadiness();
    noteReadiness(starting, set, down, { isReady: false, nowMs });
    expect(findDrainedAtMs(set, up, starting, nowMs)).toBe(-Infinity);
    expect(findDrainedAtMs(set, down, reported([true]), nowMs)).toBe(-Infinity);
  });

  it("its drain time after the start of an agent, if it may have been ready before", () => {
    expect(findDrainedAtMs(set, up, newReadiness(), nowMs)).toBe(nowMs + 3_000);
    const partial = observedSet(set, { app: "running" });
    expect(findDrainedAtMs(set, partial, newReadiness(), nowMs)).toBe(-Infinity);
    const readiness = newReadiness();
    noteReadiness(readiness, set, up, { isReady: false, nowMs });
    expect(findDrainedAtMs(set, up, readiness, nowMs + 1_000)).toBe(nowMs + 3_000);
  });
});
