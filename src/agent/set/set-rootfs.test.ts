import { hashSpec } from "../model/spec-hash.ts";
import { beforeEach, describe, expect, it } from "vitest";
import { localSet } from "../../../test/support/agent/local-set.ts";
import { infraStartedAtMs, observedSet } from "../../../test/support/fleet/observed-set.ts";
import { toPersistedHistory, restoreHistory } from "./persisted-history.ts";
import { reconcile } from "./reconcile.ts";
import {
  type DesiredLocalSet,
  enterGeneration,
  newSetHistory,
  noteObserved,
} from "./set-history.ts";
import { noteRootfs } from "./set-rootfs.ts";

const nowMs = infraStartedAtMs + 20_000;
const now = { nowMs, wallMs: nowMs };
const limitBytes = 32 * 2 ** 20;

describe("a set whose containers write to their root file systems", () => {
  const running = { app: "running", log: "running" } as const;
  let set: DesiredLocalSet;
  let history: ReturnType<typeof newSetHistory>;
  beforeEach(() => {
    set = hashSpec({
      ...localSet({ names: ["app", "log"], template: { rootfs: "32Mi" } }),
      desired: "running",
    });
    history = newSetHistory();
    enterGeneration(history, set, () => true);
    noteObserved(history, set, observedSet(set, running), now);
  });

  const idOf = (name: string) =>
    observedSet(set, running).containers.find((seen) => seen.name === name)?.dockerId ?? "";
  function write(bytes: { app: number; log: number }, { stops = false } = {}): boolean {
    const usedBytes = new Map([
      [idOf("app"), bytes.app],
      [idOf("log"), bytes.log],
    ]);
    const subject = { desired: set, observed: observedSet(set, running) };
    return noteRootfs(history, subject, { usedBytes, stops, wallMs: nowMs });
  }
  const verdict = (states: Parameters<typeof observedSet>[1] = running) =>
    reconcile(set, observedSet(set, states), history, nowMs);

  it("reports the written bytes after a relevant change", () => {
    expect(write({ app: 1_000, log: 0 })).toBe(true);
    expect(write({ app: 2_000, log: 0 })).toBe(false);
    expect(write({ app: 2 ** 20, log: 0 })).toBe(true);
    expect(history.containers.get("app")?.rootfs).toMatchObject({ usedBytes: 2 ** 20 });
    expect(verdict()).toMatchObject({ state: "running", ready: true, reason: null });
  });

  it("keeps running with a reason while its containers exceed its rootfs together", () => {
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

  it("is stopped if the policy says so, and stays stopped until its containers are replaced", () => {
    write({ app: limitBytes, log: 1 }, { stops: true });
    const reason = {
      code: "rootfs-exceeded",
      text: expect.stringMatching(
        /The set was stopped\..* without the data in volumes of their images/,
      ),
    };
    expect(verdict()).toMatchObject({ steps: [{ kind: "stop-all" }], state: "failed", reason });
    const stopped = { app: "exited 143", log: "exited 143" } as const;
    const down = observedSet(set, stopped);
    if (down.infra) down.infra.state = "exited";
    expect(reconcile(set, down, history, nowMs)).toMatchObject({
      steps: [],
      state: "failed",
      reason,
    });
    write({ app: 0, log: 1 }, { stops: true });
    expect(reconcile(set, down, history, nowMs)).toMatchObject({ state: "failed" });
    const next = (changes: Partial<DesiredLocalSet>) => {
      set = hashSpec({ ...set, generation: set.generation + 1, ...changes });
      enterGeneration(history, set, () => true);
      return reconcile(set, down, history, nowMs);
    };
    expect(next({})).toMatchObject({ steps: [], state: "failed", reason });
    expect(next({ desired: "stopped" })).toMatchObject({ state: "stopped" });
    expect(next({ desired: "running" })).toMatchObject({ state: "failed", reason });
    expect(next({ restartGeneration: set.generation })).toMatchObject({
      steps: [{ kind: "prepare" }],
    });
  });

  it("is started again if its template allows that much", () => {
    write({ app: limitBytes, log: 1 }, { stops: true });
    set = { ...set, generation: set.generation + 1 };
    set.template = { ...set.template, rootfsBytes: limitBytes + 1 };
    enterGeneration(history, set, () => true);
    expect(verdict()).toMatchObject({ state: "running", reason: null });
  });

  it("stays stopped after a restart of the agent, unless the policy has changed", () => {
    write({ app: limitBytes, log: 1 }, { stops: true });
    const persisted = structuredClone(toPersistedHistory(history, set.template));
    for (const stops of [true, false]) {
      history = newSetHistory();
      restoreHistory(history, persisted, stops);
      enterGeneration(history, set, () => true);
      expect(verdict().state).toBe(stops ? "failed" : "running");
    }
  });

  it("is not stopped for the bytes of containers that a restart is replacing", () => {
    const before = observedSet(set, running);
    const generation = set.generation + 1;
    set = hashSpec({ ...set, generation, restartGeneration: generation });
    enterGeneration(history, set, () => true);
    const usedBytes = new Map([[idOf("app"), 10 * limitBytes]]);
    const subject = { desired: set, observed: before };
    expect(noteRootfs(history, subject, { usedBytes, stops: true, wallMs: nowMs })).toBe(false);
    expect(reconcile(set, before, history, nowMs)).toMatchObject({ steps: [{ kind: "prepare" }] });
  });

  it("has no reason for the bytes of deleted containers", () => {
    const others = new Map([["another", 10 * limitBytes]]);
    const subject = { desired: set, observed: observedSet(set, running) };
    expect(noteRootfs(history, subject, { usedBytes: others, stops: true, wallMs: nowMs })).toBe(
      false,
    );
    expect(verdict().reason).toBeNull();
  });
});
