import { describe, expect, it } from "vitest";
import { localSet, type LocalSetChanges } from "../../test/support/agent/local-set.ts";
import {
  infraStartedAtMs,
  observedSet,
  type ObservedSetChanges,
  type Standing,
} from "../../test/support/fleet/observed-set.ts";
import type { SetDesire } from "../contracts/api/sets.ts";
import { judgeContainer, reconcile } from "./reconcile.ts";
import {
  type DesiredLocalSet,
  enterGeneration,
  newSetMemory,
  noteFailure,
  noteObserved,
  noteRunning,
  type SetMemory,
} from "./set-memory.ts";
import { noteFailedLives, noteProbe } from "./container-memory.ts";

const nowMs = infraStartedAtMs + 20_000;
const http = { health: { http: { port: 80 } } };

function setOf(changes: LocalSetChanges = {}, desired: SetDesire = "running"): DesiredLocalSet {
  return { ...localSet({ names: ["app", "log"], ...changes }), desired };
}

function memoryOf(set: DesiredLocalSet, { hasRun = false } = {}): SetMemory {
  const memory = newSetMemory();
  enterGeneration(memory, set, () => hasRun);
  return memory;
}

/** The verdict on a set that was seen running, or being made, before it was seen like this. */
function judge(
  set: DesiredLocalSet,
  standings: Record<string, Standing>,
  { memory = memoryOf(set), ...changes }: ObservedSetChanges & { memory?: SetMemory } = {},
) {
  const observed = observedSet(set, standings, changes);
  noteObserved(memory, set, observed, nowMs);
  return reconcile(set, observed, memory, nowMs);
}

/** `memory` after it saw these containers running. */
function afterRunning(set: DesiredLocalSet, { hasRun = true } = {}): SetMemory {
  const memory = memoryOf(set, { hasRun });
  const names = set.template.containers.map(({ name }) => [name, "running"] as const);
  noteObserved(memory, set, observedSet(set, Object.fromEntries(names)), nowMs - 10_000);
  return memory;
}

describe("a set that should run", () => {
  it("is prepared when nothing of it is there", () => {
    const set = setOf();
    expect(reconcile(set, undefined, memoryOf(set), nowMs)).toMatchObject({
      action: { kind: "prepare" },
      state: "preparing",
    });
  });

  const unprepared: [string, Record<string, Standing>, ObservedSetChanges][] = [
    ["infra is not there", { app: "created", log: "created" }, { infra: "absent" }],
    ["infra has ended", { app: "running", log: "running" }, { infra: "exited 137" }],
    ["infra is another one", { app: "created", log: "created" }, { outdated: "infra" }],
    ["a container is missing", { app: "created" }, {}],
    ["a container is another one", { app: "running", log: "running" }, { outdated: "log" }],
    ["a container has lost its network", { app: "running", log: "dead" }, {}],
  ];
  it.each(unprepared)("is prepared when %s", (_what, standings, changes) => {
    expect(judge(setOf(), standings, changes).action).toEqual({ kind: "prepare" });
  });

  it("is prepared again for a newer restart, and when there is a container too many", () => {
    const set = setOf();
    const observed = observedSet(set, { app: "running", log: "running" });
    const restarted = { ...set, restartGeneration: 2 };
    expect(reconcile(restarted, observed, memoryOf(set), nowMs).action.kind).toBe("prepare");
    const smaller = structuredClone(set);
    smaller.template.containers.pop();
    expect(reconcile(smaller, observed, memoryOf(set), nowMs).action.kind).toBe("prepare");
  });

  it("is started by index, equal indexes together", () => {
    const set = setOf({ names: ["a", "b", "c"] });
    for (const [position, index] of [5, 5, 9].entries()) {
      const container = set.template.containers[position];
      if (container) container.index = index;
    }
    const first = judge(set, { a: "created", b: "created", c: "created" });
    expect(first).toMatchObject({
      action: { kind: "start", containers: ["a", "b"] },
      state: "starting",
    });
    const second = judge(set, { a: "running", b: "running", c: "created" });
    expect(second.action).toEqual({ kind: "start", containers: ["c"] });
    const third = judge(set, { a: "running", b: "running", c: "running" });
    expect(third).toEqual({
      action: { kind: "none" },
      state: "running",
      ready: true,
      reason: null,
    });
  });

  it("waits with the next index until what has a health check was healthy", () => {
    const set = setOf({ options: http });
    const memory = memoryOf(set);
    const standings = { app: "running", log: "created" } as const;
    expect(judge(set, standings, { memory }).action).toEqual({
      kind: "probe",
      containers: ["app"],
      untilMs: Number.POSITIVE_INFINITY,
    });
    const [seen] = observedSet(set, standings).containers;
    const check = set.template.containers[0]?.options.health;
    if (!seen || !check) throw new Error("there is one with a check");
    noteProbe(memory, seen, check, { healthy: false, detail: "refused" }, nowMs);
    expect(judge(set, standings, { memory })).toMatchObject({
      action: { kind: "wait", untilMs: nowMs + 25 },
      ready: false,
      reason: { code: "not-healthy" },
    });
    noteProbe(memory, seen, check, { healthy: true }, nowMs);
    expect(judge(set, standings, { memory }).action).toEqual({
      kind: "start",
      containers: ["log"],
    });
  });

  it("does not report ready what was healthy and is not any more, and goes on probing", () => {
    const set = setOf({ names: ["app"], options: http });
    const memory = afterRunning(set);
    const standings = { app: "running" } as const;
    const [seen] = observedSet(set, standings).containers;
    const check = set.template.containers[0]?.options.health;
    if (!seen || !check) throw new Error("there is one with a check");
    noteProbe(memory, seen, check, { healthy: true }, nowMs);
    expect(judge(set, standings, { memory })).toMatchObject({ state: "running", ready: true });
    for (let i = 0; i < 3; i++)
      noteProbe(memory, seen, check, { healthy: false, detail: "500" }, nowMs);
    expect(judge(set, standings, { memory })).toMatchObject({
      action: { kind: "wait", untilMs: nowMs + 2_000 },
      state: "running",
      ready: false,
      reason: { code: "not-healthy", text: '"app" is not healthy: 500' },
    });
  });

  it("is started whole again, whatever the policies say, when infra has begun anew", () => {
    const set = setOf({ options: { restart: { on: "never" } } });
    const memory = memoryOf(set, { hasRun: true });
    const verdict = judge(
      set,
      { app: "exited 0", log: "exited 1" },
      { isEarlierLife: true, memory },
    );
    expect(verdict.action).toEqual({ kind: "start", containers: ["app"] });
  });

  it("waits out the time of an infra container that has just ended", () => {
    const set = setOf();
    const memory = afterRunning(set);
    const verdict = judge(set, { app: "running", log: "running" }, { infra: "exited 137", memory });
    expect(verdict).toMatchObject({
      action: { kind: "wait", untilMs: nowMs + 1_000 },
      state: "running",
      ready: false,
    });
  });
});

describe("a container that ended by itself", () => {
  const policies: ["always" | "failure" | "never", number, boolean][] = [
    ["always", 0, true],
    ["always", 1, true],
    ["failure", 0, false],
    ["failure", 1, true],
    ["never", 0, false],
    ["never", 1, false],
  ];
  it.each(policies)("policy %s, exit code %i: restarted is %s", (on, exitCode, isRestarted) => {
    const set = setOf({ names: ["app"], options: { restart: { on } } });
    const verdict = judge(set, { app: `exited ${exitCode}` }, { memory: afterRunning(set) });
    expect(verdict.state).toBe("running");
    if (isRestarted) {
      expect(verdict).toMatchObject({
        action: { kind: "wait", untilMs: nowMs + 1_000 },
        ready: false,
        reason: { code: "container-exited" },
      });
    } else {
      expect(verdict).toMatchObject({ action: { kind: "none" }, ready: exitCode === 0 });
    }
  });

  it("does not hold back the restart of one that comes after it", () => {
    const set = setOf();
    const memory = afterRunning(set);
    noteObserved(
      memory,
      set,
      observedSet(set, { app: "exited 1", log: "exited 1" }),
      nowMs - 5_000,
    );
    const verdict = judge(set, { app: "exited 1", log: "exited 1" }, { memory });
    expect(verdict.action).toEqual({ kind: "start", containers: ["app"] });
  });

  it("is a failed start while the set has not run, and is counted once", () => {
    const set = setOf();
    const memory = afterRunning(set, { hasRun: false });
    const standings = { app: "exited 3", log: "created" } as const;
    const verdict = judge(set, standings, { memory });
    expect(verdict).toMatchObject({
      action: { kind: "fail", containers: ["app"], temporary: true },
      state: "starting",
      reason: { code: "container-exited", phase: "start" },
    });
    noteFailedLives(memory, observedSet(set, standings), ["app"]);
    expect(judge(set, standings, { memory }).action.kind).toBe("wait");
  });

  it("fails the start for good when nothing will start it again and it was never healthy", () => {
    const set = setOf({ names: ["app"], options: { ...http, restart: { on: "never" } } });
    const memory = afterRunning(set, { hasRun: false });
    expect(judge(set, { app: "exited 0" }, { memory }).action).toMatchObject({
      kind: "fail",
      temporary: false,
    });
  });

  it("lets the next ones start when it has done its work", () => {
    const set = setOf({ options: { restart: { on: "failure" } } });
    const memory = afterRunning(set, { hasRun: false });
    const verdict = judge(set, { app: "exited 0", log: "created" }, { memory });
    expect(verdict.action).toEqual({ kind: "start", containers: ["log"] });
  });
});

describe("a start that does not get healthy", () => {
  it("fails after the start period and as many failures as the check allows", () => {
    const set = setOf({
      names: ["app"],
      options: { health: { tcp: { port: 1 }, failureThreshold: 2, startPeriodSeconds: 10 } },
    });
    const memory = memoryOf(set);
    const observed = observedSet(set, { app: "running" });
    noteObserved(memory, set, observed, nowMs);
    const check = set.template.containers[0]?.options.health;
    const [seen] = observed.containers;
    if (!seen || !check) throw new Error("there is one with a check");
    const startedAtMs = Date.parse(seen.startedAt ?? "");
    const probeAt = (afterMs: number) => {
      noteProbe(memory, seen, check, { healthy: false, detail: "refused" }, startedAtMs + afterMs);
      return reconcile(set, observed, memory, startedAtMs + afterMs).action.kind;
    };
    expect(probeAt(1_000)).toBe("wait");
    expect(probeAt(9_999)).toBe("wait");
    expect(probeAt(10_000)).toBe("wait");
    expect(probeAt(12_000)).toBe("fail");
  });
});

describe("a set that should not run", () => {
  const up: [string, Record<string, Standing>, ObservedSetChanges][] = [
    ["everything runs", { app: "running", log: "running" }, {}],
    ["infra alone runs", { app: "exited 0", log: "created" }, {}],
    ["one container runs", { app: "running" }, { infra: "absent" }],
  ];
  it.each(up)("is stopped when %s", (_what, standings, changes) => {
    const verdict = judge(setOf({}, "stopped"), standings, changes);
    expect(verdict).toMatchObject({
      action: { kind: "stop-all" },
      state: "stopping",
      ready: false,
    });
  });

  it("is left as it is when nothing of it runs, or nothing is there", () => {
    const set = setOf({}, "stopped");
    const quiet = { action: { kind: "none" }, state: "stopped", ready: false, reason: null };
    expect(judge(set, { app: "exited 0", log: "created" }, { infra: "exited 0" })).toEqual(quiet);
    expect(reconcile(set, undefined, memoryOf(set), nowMs)).toEqual(quiet);
  });

  it("is removed when it is to be deleted, or is nobody's, and then absent", () => {
    const set = setOf({}, "deleted");
    const observed = observedSet(set, { app: "exited 0" }, { infra: "absent" });
    for (const desired of [set, undefined]) {
      const memory = desired ? memoryOf(desired) : newSetMemory();
      expect(reconcile(desired, observed, memory, nowMs).action.kind).toBe("remove");
      expect(reconcile(desired, undefined, memory, nowMs)).toMatchObject({
        action: { kind: "none" },
        state: "absent",
      });
    }
  });
});

describe("after a failure", () => {
  const failure = {
    reason: { code: "docker-error", text: "no", phase: "prepare" },
    temporary: true,
    isUnavailable: false,
  };

  it("waits until the next attempt is due, with the failure as the reason", () => {
    const set = setOf();
    const memory = memoryOf(set);
    noteFailure(memory, failure, { mayGiveUp: true, nowMs, random: 0 });
    const verdict = reconcile(set, undefined, memory, nowMs);
    expect(verdict).toMatchObject({
      action: { kind: "wait", untilMs: nowMs + 1_000 },
      state: "preparing",
      reason: { code: "docker-error" },
    });
    expect(reconcile(set, undefined, memory, nowMs + 1_000).action.kind).toBe("prepare");
  });

  it("does nothing more once the set is given up, and removes nothing of it", () => {
    const set = setOf();
    const memory = memoryOf(set);
    noteFailure(memory, { ...failure, temporary: false }, { mayGiveUp: true, nowMs, random: 0 });
    expect(judge(set, { app: "created", log: "created" }, { memory })).toMatchObject({
      action: { kind: "none" },
      state: "failed",
      reason: { code: "docker-error" },
    });
  });

  it("never gives up what has run", () => {
    const set = setOf();
    const memory = memoryOf(set);
    noteRunning(memory);
    for (let i = 0; i < 50; i++) {
      noteFailure(memory, { ...failure, temporary: false }, { mayGiveUp: true, nowMs, random: 1 });
    }
    const verdict = reconcile(set, undefined, memory, nowMs + 75_000);
    expect(verdict).toMatchObject({ action: { kind: "prepare" }, state: "running", ready: false });
  });
});

describe("a container in the report", () => {
  it("is not ready without the set's network, whatever it does", () => {
    const set = setOf({ names: ["app"] });
    const [template] = set.template.containers;
    if (!template) throw new Error("there is one");
    const ready = (changes: ObservedSetChanges) =>
      judgeContainer(template, observedSet(set, { app: "running" }, changes), memoryOf(set)).ready;
    expect(ready({})).toBe(true);
    expect(ready({ infra: "exited 0" })).toBe(false);
    const absent = observedSet(set, {});
    expect(judgeContainer(template, absent, memoryOf(set))).toEqual({ ready: false, reason: null });
  });
});

it("says that a process of a container was killed for want of memory, and how often, while it runs on", () => {
  const set = setOf({ names: ["app"] });
  const memory = afterRunning(set);
  const [template] = set.template.containers;
  if (!template) throw new Error("the set has a container");
  const kill = (oomKills: number) => {
    const observed = observedSet(set, { app: "running" });
    for (const seen of observed.containers) {
      seen.oomKills = oomKills;
      seen.memoryPeakBytes = 900;
      seen.limits = { cpuQuotaUs: 1_000, cpuShares: 2, memoryBytes: 1_000 };
    }
    noteObserved(memory, set, observed, nowMs);
    return judgeContainer(template, observed, memory);
  };
  const use = "it had 900 bytes at most, its limit is 1000 bytes";
  const text = '"app" ran out of memory and the kernel killed a process of it';
  const reason = { code: "out-of-memory", text: `${text}; ${use}` };
  expect(kill(1)).toMatchObject({ ready: true, reason });
  expect(kill(1)).toMatchObject({ ready: true, reason });
  const twice = { ...reason, text: `${text}, 3 times by now; ${use}` };
  expect(kill(3)).toMatchObject({ ready: true, reason: twice });
  expect(memory.containers.get("app")?.oomKills).toBe(3);
});

it("says that a container ran out of memory, also when Docker does not know its exit code", () => {
  const set = setOf({ names: ["app"] });
  const memory = afterRunning(set);
  const observed = observedSet(set, { app: "exited 137" });
  for (const seen of observed.containers) {
    seen.oomKilled = true;
    seen.exitCode = undefined;
  }
  noteObserved(memory, set, observed, nowMs);
  expect(reconcile(set, observed, memory, nowMs).reason).toMatchObject({
    code: "out-of-memory",
    text: '"app" ended with exit code unknown (out of memory)',
  });
});
