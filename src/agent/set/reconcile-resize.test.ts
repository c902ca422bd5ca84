import { hashSpec } from "../model/spec-hash.ts";
import { describe, expect, it } from "vitest";
import { localSet, type LocalSetChanges } from "../../../test/support/agent/local-set.ts";
import { infraStartedAtMs, observedSet } from "../../../test/support/fleet/observed-set.ts";
import type { ObservedIo } from "../model/local-set.ts";
import { reconcile } from "./reconcile.ts";
import { noteResized } from "./resize-history.ts";
import { containerLimits, setLimits } from "../model/set-limits.ts";
import {
  type DesiredLocalSet,
  enterGeneration,
  newSetHistory,
  noteObserved,
  type SetHistory,
} from "./set-history.ts";

const nowMs = infraStartedAtMs + 20_000;
const now = { nowMs, wallMs: nowMs };
const running = { app: "running", log: "running" } as const;

function setOf(changes: LocalSetChanges = {}): DesiredLocalSet {
  return hashSpec({ ...localSet({ names: ["app", "log"], ...changes }), desired: "running" });
}

function historyOf(set: DesiredLocalSet, { hasRun = false } = {}): SetHistory {
  const history = newSetHistory();
  enterGeneration(history, set, () => hasRun);
  return history;
}

/** The history after it saw the containers running. */
function afterRunning(set: DesiredLocalSet): SetHistory {
  const history = historyOf(set, { hasRun: true });
  noteObserved(history, set, observedSet(set, running), { ...now, nowMs: nowMs - 10_000 });
  return history;
}

describe("a set whose size differs from its template", () => {
  const other = { cpuQuotaUs: 1, cpuShares: 2, memoryBytes: 2 ** 30 };
  const http = { health: { http: { port: 80 } } };

  /** The running set, with one limit of another size. */
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
    const history = afterRunning(set);
    const verdict = reconcile(set, seen(set, part), history, nowMs);
    expect(verdict).toMatchObject({ steps: [{ kind: "resize" }], state: "running", ready: true });
  });

  it("is not resized if nothing differs, or if its limits are unknown", () => {
    const set = setOf(withVolume);
    const history = afterRunning(set);
    expect(reconcile(set, seen(set, "nothing"), history, nowMs).steps).toEqual([]);
    expect(reconcile(set, observedSet(set, running), history, nowMs).steps).toEqual([]);
  });

  it("is resized only after its start, and not before a stop", () => {
    const set = setOf();
    const created = {
      ...seen(set, "set"),
      containers: observedSet(set, { app: "created", log: "created" }).containers,
    };
    expect(reconcile(set, created, historyOf(set), nowMs).steps).toMatchObject([{ kind: "start" }]);
    const unprepared = { ...seen(set, "set"), infra: undefined };
    expect(reconcile(set, unprepared, afterRunning(set), nowMs).steps).toMatchObject([
      { kind: "prepare" },
    ]);
    const stopping: DesiredLocalSet = { ...set, desired: "stopped" };
    expect(reconcile(stopping, seen(set, "set"), afterRunning(set), nowMs).steps).toMatchObject([
      { kind: "stop-all" },
    ]);
  });

  it("keeps running after a failed resize, reports the reason, and is retried", () => {
    const set = setOf({ options: http });
    const history = afterRunning(set);
    const reason = { code: "memory-in-use", text: "it uses more", phase: "resize" };
    const failure = { reason, temporary: true, isUnavailable: false };
    noteResized(history, failure, { ...now, random: 0 });
    const verdict = reconcile(set, seen(set, "set"), history, nowMs);
    expect(verdict).toMatchObject({ state: "running", reason: { code: "memory-in-use" } });
    expect(verdict.steps).toMatchObject([{ kind: "probe" }, { kind: "probe" }]);
    const later = history.resize.retryAtMs;
    expect(reconcile(set, seen(set, "set"), history, later).steps).toContainEqual({
      kind: "resize",
    });
    noteResized(history, failure, { ...now, nowMs: later, random: 0 });
    expect(history.resize.retryAtMs - later).toBeGreaterThan(later - nowMs);
    noteResized(history, undefined, { ...now, random: 0 });
    expect(reconcile(set, seen(set, "nothing"), history, nowMs).reason).toBeNull();
  });

  it("is resized to limit block I/O, and keeps running with a reason if the kernel cannot", () => {
    const set = setOf({ template: { io: { writeBytesPerSecond: "1Mi" } } });
    const history = afterRunning(set);
    const unenforceableReason = "no such controller";
    const seenWith = (io: ObservedIo) => {
      const observed = seen(set, "nothing");
      return { ...observed, containers: observed.containers.map((one) => ({ ...one, io })) };
    };
    const free = reconcile(set, seenWith({ limits: [{}] }), history, nowMs);
    expect(free).toMatchObject({ steps: [{ kind: "resize" }], ready: true, reason: null });
    const unenforced = reconcile(
      set,
      seenWith({ limits: [], unenforceableReason }),
      history,
      nowMs,
    );
    expect(unenforced).toMatchObject({
      steps: [],
      state: "running",
      ready: true,
      reason: { code: "io-not-limited", text: expect.stringContaining(unenforceableReason) },
    });
    const other = { ...set, template: { ...set.template, io: undefined } };
    expect(
      reconcile(other, seenWith({ limits: [], unenforceableReason }), history, nowMs).reason,
    ).toBeNull();
  });
});
