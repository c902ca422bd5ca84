import { describe, expect, it } from "vitest";
import { localSet, type LocalSetChanges } from "../../test/support/agent/local-set.ts";
import { infraStartedAtMs, observedSet } from "../../test/support/fleet/observed-set.ts";
import type { ObservedIo } from "./ports/set-port.ts";
import { reconcile } from "./reconcile.ts";
import { noteResized } from "./resize-memory.ts";
import { containerLimits, setLimits } from "./set-limits.ts";
import {
  type DesiredLocalSet,
  enterGeneration,
  newSetMemory,
  noteObserved,
  type SetMemory,
} from "./set-memory.ts";

const nowMs = infraStartedAtMs + 20_000;
const running = { app: "running", log: "running" } as const;

function setOf(changes: LocalSetChanges = {}): DesiredLocalSet {
  return { ...localSet({ names: ["app", "log"], ...changes }), desired: "running" };
}

function memoryOf(set: DesiredLocalSet, { hasRun = false } = {}): SetMemory {
  const memory = newSetMemory();
  enterGeneration(memory, set, () => hasRun);
  return memory;
}

/** `memory` after it saw the containers running. */
function afterRunning(set: DesiredLocalSet): SetMemory {
  const memory = memoryOf(set, { hasRun: true });
  noteObserved(memory, set, observedSet(set, running), nowMs - 10_000);
  return memory;
}

describe("a set of another size than it should have", () => {
  const other = { cpuQuotaUs: 1, cpuShares: 2, memoryBytes: 2 ** 30 };
  const http = { health: { http: { port: 80 } } };

  /** As it is seen running, with one limit of another size. */
  function seen(set: DesiredLocalSet, part: "set" | "container" | "volume" | "nothing") {
    const observed = observedSet(set, running);
    observed.limits = part === "set" ? other : setLimits(set.template);
    observed.volumeBytes = part === "volume" ? 2 ** 20 : 2 ** 30;
    for (const container of observed.containers) {
      const options = set.template.containers.find(({ name }) => name === container.name)?.options;
      container.limits = options && containerLimits(set.template, options);
    }
    const last = observed.containers.at(-1);
    if (last && part === "container") last.limits = other;
    return observed;
  }
  const withVolume = { template: { volume: { size: "64Mi", mountPath: "/data" } } };

  it.each(["set", "container", "volume"] as const)("is resized when its %s differs", (part) => {
    const set = setOf(withVolume);
    const memory = afterRunning(set);
    const verdict = reconcile(set, seen(set, part), memory, nowMs);
    expect(verdict).toMatchObject({ action: { kind: "resize" }, state: "running", ready: true });
  });

  it("is left alone when nothing differs, or nothing is known", () => {
    const set = setOf(withVolume);
    const memory = afterRunning(set);
    expect(reconcile(set, seen(set, "nothing"), memory, nowMs).action.kind).toBe("none");
    expect(reconcile(set, observedSet(set, running), memory, nowMs).action.kind).toBe("none");
  });

  it("is resized only once it runs, and not when it is to stop", () => {
    const set = setOf();
    const created = {
      ...seen(set, "set"),
      containers: observedSet(set, { app: "created", log: "created" }).containers,
    };
    expect(reconcile(set, created, memoryOf(set), nowMs).action.kind).toBe("start");
    const unprepared = { ...seen(set, "set"), infra: undefined };
    expect(reconcile(set, unprepared, afterRunning(set), nowMs).action.kind).toBe("prepare");
    const stopping: DesiredLocalSet = { ...set, desired: "stopped" };
    expect(reconcile(stopping, seen(set, "set"), afterRunning(set), nowMs).action.kind).toBe(
      "stop-all",
    );
  });

  it("goes on as it is when it cannot be resized, says why, and is tried again", () => {
    const set = setOf({ options: http });
    const memory = afterRunning(set);
    const reason = { code: "memory-in-use", text: "it uses more", phase: "resize" };
    const failure = { reason, temporary: true, isUnavailable: false };
    noteResized(memory, failure, { nowMs, random: 0 });
    const verdict = reconcile(set, seen(set, "set"), memory, nowMs);
    expect(verdict).toMatchObject({ state: "running", reason: { code: "memory-in-use" } });
    expect(verdict.action.kind).toBe("probe");
    const later = memory.resize.retryAtMs;
    expect(reconcile(set, seen(set, "set"), memory, later).action.kind).toBe("resize");
    noteResized(memory, failure, { nowMs: later, random: 0 });
    expect(memory.resize.retryAtMs - later).toBeGreaterThan(later - nowMs);
    noteResized(memory, undefined, { nowMs, random: 0 });
    expect(reconcile(set, seen(set, "nothing"), memory, nowMs).reason).toBeNull();
  });

  it("is resized when block I/O is not limited, and runs on and says so where it cannot be", () => {
    const set = setOf({ template: { io: { writeBytesPerSecond: "1Mi" } } });
    const memory = afterRunning(set);
    const hindrance = "no such controller";
    const seenWith = (io: ObservedIo) => {
      const observed = seen(set, "nothing");
      return { ...observed, containers: observed.containers.map((one) => ({ ...one, io })) };
    };
    const free = reconcile(set, seenWith({ limits: [{}] }), memory, nowMs);
    expect(free).toMatchObject({ action: { kind: "resize" }, ready: true, reason: null });
    const hindered = reconcile(set, seenWith({ limits: [], hindrance }), memory, nowMs);
    expect(hindered).toMatchObject({
      action: { kind: "none" },
      state: "running",
      ready: true,
      reason: { code: "io-not-limited", text: expect.stringContaining(hindrance) },
    });
    const other = { ...set, template: { ...set.template, io: undefined } };
    expect(reconcile(other, seenWith({ limits: [], hindrance }), memory, nowMs).reason).toBeNull();
  });
});
