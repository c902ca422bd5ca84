import { expect, it } from "vitest";
import { beginRun } from "./container-run.ts";

const nowMs = 5_000;
const dueOf = (id: string, isAdopted: boolean): number =>
  beginRun(id, { specHash: "", isAdopted, nowMs }).probes.nextAtMs - nowMs;

it("a new agent begins the probes of running containers within ten seconds, and not together", () => {
  const ids = Array.from({ length: 500 }, (_, index) => `${index}f09ac@2026-11-30T08:00:00Z`);
  const dues = ids.map((id) => dueOf(id, true));
  expect(Math.max(...dues)).toBeLessThan(10_000);
  for (let second = 0; second < 10; second += 1) {
    const count = dues.filter((due) => Math.floor(due / 1_000) === second).length;
    expect([second, count > 20 && count < 100]).toEqual([second, true]);
  }
});

it("a container that starts is probed immediately", () => {
  expect(dueOf("a@1", false)).toBe(0);
});
