import { beforeEach, describe, expect, it } from "vitest";
import { localSet } from "../../test/support/agent/local-set.ts";
import { infraStartedAtMs, observedSet } from "../../test/support/fleet/observed-set.ts";
import { keptOf, restoreKept } from "./kept-set.ts";
import { reconcile } from "./reconcile.ts";
import { type DesiredLocalSet, enterGeneration, newSetMemory, noteObserved } from "./set-memory.ts";
import { noteRootfs } from "./set-rootfs.ts";

const nowMs = infraStartedAtMs + 20_000;
const limitBytes = 32 * 2 ** 20;

describe("a set whose containers write to their root file systems", () => {
  const running = { app: "running", log: "running" } as const;
  let set: DesiredLocalSet;
  let memory: ReturnType<typeof newSetMemory>;
  beforeEach(() => {
    set = {
      ...localSet({ names: ["app", "log"], template: { rootfs: "32Mi" } }),
      desired: "running",
    };
    memory = newSetMemory();
    enterGeneration(memory, set, () => true);
    noteObserved(memory, set, observedSet(set, running), nowMs);
  });

  const idOf = (name: string) =>
    observedSet(set, running).containers.find((seen) => seen.name === name)?.dockerId ?? "";
  function write(bytes: { app: number; log: number }, { stops = false } = {}): boolean {
    const usedBytes = new Map([
      [idOf("app"), bytes.app],
      [idOf("log"), bytes.log],
    ]);
    const about = { desired: set, observed: observedSet(set, running) };
    return noteRootfs(memory, about, { usedBytes, stops, nowMs });
  }
  const verdict = (states: Parameters<typeof observedSet>[1] = running) =>
    reconcile(set, observedSet(set, states), memory, nowMs);

  it("reports what they have written, once it has moved", () => {
    expect(write({ app: 1_000, log: 0 })).toBe(true);
    expect(write({ app: 2_000, log: 0 })).toBe(false);
    expect(write({ app: 2 ** 20, log: 0 })).toBe(true);
    expect(memory.containers.get("app")?.rootfs).toMatchObject({ usedBytes: 2 ** 20 });
    expect(verdict()).toMatchObject({ state: "running", ready: true, reason: null });
  });

  it("goes on, with the reason, when all together are over what it may have", () => {
    expect(write({ app: limitBytes, log: 0 })).toBe(true);
    expect(verdict().reason).toBeNull();
    expect(write({ app: limitBytes, log: 1 })).toBe(true);
    expect(write({ app: limitBytes, log: 1 })).toBe(false);
    expect(verdict()).toMatchObject({
      state: "running",
      ready: true,
      reason: { code: "rootfs-exceeded", text: expect.stringContaining('"log" 1') },
    });
    expect(write({ app: 0, log: 1 })).toBe(true);
    expect(verdict().reason).toBeNull();
  });

  it("is stopped where that is the policy, and stays so until its containers are made anew", () => {
    write({ app: limitBytes, log: 1 }, { stops: true });
    const reason = { code: "rootfs-exceeded", text: expect.stringContaining("it was stopped") };
    expect(verdict()).toMatchObject({ action: { kind: "stop-all" }, state: "failed", reason });
    const stopped = { app: "exited 143", log: "exited 143" } as const;
    const down = observedSet(set, stopped);
    if (down.infra) down.infra.state = "exited";
    expect(reconcile(set, down, memory, nowMs)).toMatchObject({
      action: { kind: "none" },
      state: "failed",
      reason,
    });
    write({ app: 0, log: 1 }, { stops: true });
    expect(reconcile(set, down, memory, nowMs)).toMatchObject({ state: "failed" });
    const next = (changes: Partial<DesiredLocalSet>) => {
      set = { ...set, generation: set.generation + 1, ...changes };
      enterGeneration(memory, set, () => true);
      return reconcile(set, down, memory, nowMs);
    };
    expect(next({})).toMatchObject({ action: { kind: "none" }, state: "failed", reason });
    expect(next({ desired: "stopped" })).toMatchObject({ state: "stopped" });
    expect(next({ desired: "running" })).toMatchObject({ state: "failed", reason });
    expect(next({ restartGeneration: set.generation })).toMatchObject({
      action: { kind: "prepare" },
    });
  });

  it("is started again when it may have that much by now", () => {
    write({ app: limitBytes, log: 1 }, { stops: true });
    set = { ...set, generation: set.generation + 1 };
    set.template = { ...set.template, rootfsBytes: limitBytes + 1 };
    enterGeneration(memory, set, () => true);
    expect(verdict()).toMatchObject({ state: "running", reason: null });
  });

  it("stays stopped when the agent starts anew, unless that is the policy no longer", () => {
    write({ app: limitBytes, log: 1 }, { stops: true });
    const kept = structuredClone(keptOf(memory));
    for (const stops of [true, false]) {
      memory = newSetMemory();
      restoreKept(memory, kept, stops);
      enterGeneration(memory, set, () => true);
      expect(verdict().state).toBe(stops ? "failed" : "running");
    }
  });

  it("is not stopped for what its containers wrote before a restart that is under way", () => {
    const before = observedSet(set, running);
    set = { ...set, generation: set.generation + 1, restartGeneration: set.generation + 1 };
    enterGeneration(memory, set, () => true);
    const usedBytes = new Map([[idOf("app"), 10 * limitBytes]]);
    const about = { desired: set, observed: before };
    expect(noteRootfs(memory, about, { usedBytes, stops: true, nowMs })).toBe(false);
    expect(reconcile(set, before, memory, nowMs)).toMatchObject({ action: { kind: "prepare" } });
  });

  it("is not blamed for what containers wrote that are gone", () => {
    const others = new Map([["another", 10 * limitBytes]]);
    const about = { desired: set, observed: observedSet(set, running) };
    expect(noteRootfs(memory, about, { usedBytes: others, stops: true, nowMs })).toBe(false);
    expect(verdict().reason).toBeNull();
  });
});
