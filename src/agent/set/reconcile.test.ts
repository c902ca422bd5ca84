import { describe, expect, it } from "vitest";
import { localSet, type LocalSetChanges } from "../../../test/support/agent/local-set.ts";
import {
  infraStartedAtMs,
  observedSet,
  type ObservedSetChanges,
  type ContainerStateText,
} from "../../../test/support/fleet/observed-set.ts";
import type { DesiredSetState } from "../../contracts/api/sets.ts";
import { judgeContainer, reconcile } from "./reconcile.ts";
import {
  type DesiredLocalSet,
  enterGeneration,
  newSetHistory,
  noteFailure,
  noteObserved,
  noteRunning,
  type SetHistory,
} from "./set-history.ts";
import { noteFailedRuns, noteProbe } from "./container-history.ts";

const nowMs = infraStartedAtMs + 20_000;
const now = { nowMs, wallMs: nowMs };
const http = { health: { http: { port: 80 } } };

function setOf(
  changes: LocalSetChanges = {},
  desired: DesiredSetState = "running",
): DesiredLocalSet {
  return { ...localSet({ names: ["app", "log"], ...changes }), desired };
}

function historyOf(set: DesiredLocalSet, { hasRun = false } = {}): SetHistory {
  const history = newSetHistory();
  enterGeneration(history, set, () => hasRun);
  return history;
}

/** The verdict on a set whose containers have these states. */
function judge(
  set: DesiredLocalSet,
  stateTexts: Record<string, ContainerStateText>,
  { history = historyOf(set), ...changes }: ObservedSetChanges & { history?: SetHistory } = {},
) {
  const observed = observedSet(set, stateTexts, changes);
  noteObserved(history, set, observed, now);
  return reconcile(set, observed, history, nowMs);
}

/** The history after it saw these containers running. */
function afterRunning(set: DesiredLocalSet, { hasRun = true } = {}): SetHistory {
  const history = historyOf(set, { hasRun });
  const names = set.template.containers.map(({ name }) => [name, "running"] as const);
  noteObserved(history, set, observedSet(set, Object.fromEntries(names)), {
    ...now,
    nowMs: nowMs - 10_000,
  });
  return history;
}

describe("a set that should run", () => {
  it("is prepared if nothing of it exists", () => {
    const set = setOf();
    expect(reconcile(set, undefined, historyOf(set), nowMs)).toMatchObject({
      action: { kind: "prepare" },
      state: "preparing",
    });
  });

  const unprepared: [string, Record<string, ContainerStateText>, ObservedSetChanges][] = [
    ["infra does not exist", { app: "created", log: "created" }, { infra: "absent" }],
    ["infra has exited", { app: "running", log: "running" }, { infra: "exited 137" }],
    ["infra is outdated", { app: "created", log: "created" }, { outdated: "infra" }],
    ["a container is missing", { app: "created" }, {}],
    ["a container is outdated", { app: "running", log: "running" }, { outdated: "log" }],
    ["a container has lost its network", { app: "running", log: "dead" }, {}],
  ];
  it.each(unprepared)("is prepared when %s", (_what, stateTexts, changes) => {
    expect(judge(setOf(), stateTexts, changes).action).toEqual({ kind: "prepare" });
  });

  it("is prepared again for a newer restart, and to remove an extra container", () => {
    const set = setOf();
    const observed = observedSet(set, { app: "running", log: "running" });
    const restarted = { ...set, restartGeneration: 2 };
    expect(reconcile(restarted, observed, historyOf(set), nowMs).action.kind).toBe("prepare");
    const smaller = structuredClone(set);
    smaller.template.containers.pop();
    expect(reconcile(smaller, observed, historyOf(set), nowMs).action.kind).toBe("prepare");
  });

  it("is started by index, with equal indexes together", () => {
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

  it("starts the next index only after containers with a health check have been healthy", () => {
    const set = setOf({ options: http });
    const history = historyOf(set);
    const stateTexts = { app: "running", log: "created" } as const;
    expect(judge(set, stateTexts, { history }).action).toEqual({
      kind: "probe",
      containers: ["app"],
      untilMs: Number.POSITIVE_INFINITY,
    });
    const [seen] = observedSet(set, stateTexts).containers;
    const check = set.template.containers[0]?.options.health;
    if (!seen || !check) throw new Error("the template has a container with a check");
    noteProbe(history, seen, check, { healthy: false, detail: "refused" }, nowMs);
    expect(judge(set, stateTexts, { history })).toMatchObject({
      action: { kind: "wait", untilMs: nowMs + 25 },
      ready: false,
      reason: { code: "not-healthy" },
    });
    noteProbe(history, seen, check, { healthy: true }, nowMs);
    expect(judge(set, stateTexts, { history }).action).toEqual({
      kind: "start",
      containers: ["log"],
    });
  });

  it("is not ready after it becomes unhealthy, and is probed further", () => {
    const set = setOf({ names: ["app"], options: http });
    const history = afterRunning(set);
    const stateTexts = { app: "running" } as const;
    const [seen] = observedSet(set, stateTexts).containers;
    const check = set.template.containers[0]?.options.health;
    if (!seen || !check) throw new Error("the template has a container with a check");
    noteProbe(history, seen, check, { healthy: true }, nowMs);
    expect(judge(set, stateTexts, { history })).toMatchObject({ state: "running", ready: true });
    for (let i = 0; i < 3; i++)
      noteProbe(history, seen, check, { healthy: false, detail: "500" }, nowMs);
    expect(judge(set, stateTexts, { history })).toMatchObject({
      action: { kind: "wait", untilMs: nowMs + 2_000 },
      state: "running",
      ready: false,
      reason: { code: "not-healthy", text: '"app" is not healthy: 500' },
    });
  });

  it("is started as a whole after a restart of infra, whatever the restart policies", () => {
    const set = setOf({ options: { restart: { on: "never" } } });
    const history = historyOf(set, { hasRun: true });
    const verdict = judge(
      set,
      { app: "exited 0", log: "exited 1" },
      { isEarlierRun: true, history },
    );
    expect(verdict.action).toEqual({ kind: "start", containers: ["app"] });
  });

  it("waits for the backoff of an infra container that has just exited", () => {
    const set = setOf();
    const history = afterRunning(set);
    const verdict = judge(
      set,
      { app: "running", log: "running" },
      { infra: "exited 137", history },
    );
    expect(verdict).toMatchObject({
      action: { kind: "wait", untilMs: nowMs + 1_000 },
      state: "running",
      ready: false,
    });
  });
});

describe("a container that exited without a stop", () => {
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
    const verdict = judge(set, { app: `exited ${exitCode}` }, { history: afterRunning(set) });
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

  it("does not delay the restart of a container with a higher index", () => {
    const set = setOf();
    const history = afterRunning(set);
    noteObserved(history, set, observedSet(set, { app: "exited 1", log: "exited 1" }), {
      ...now,
      nowMs: nowMs - 5_000,
    });
    const verdict = judge(set, { app: "exited 1", log: "exited 1" }, { history });
    expect(verdict.action).toEqual({ kind: "start", containers: ["app"] });
  });

  it.each(["always", "never"])(
    "is a permanent failure if its command could not be executed (restart: %s)",
    (on) => {
      const set = setOf({ names: ["app"], options: { restart: { on } } });
      const observed = observedSet(set, { app: "exited 127" });
      const [app] = observed.containers;
      if (app) app.startFailure = "exec /bin/menu failed: No such file or directory";
      const history = historyOf(set);
      noteObserved(history, set, observed, now);
      expect(reconcile(set, observed, history, nowMs).action).toMatchObject({
        kind: "fail",
        temporary: false,
        reason: {
          code: "start-failed",
          phase: "start",
          text: '"app" cannot be started: exec /bin/menu failed: No such file or directory',
        },
      });
    },
  );

  it("is restarted if its command could not be executed in an earlier run of infra", () => {
    const set = setOf({ names: ["app"] });
    const observed = observedSet(set, { app: "exited 127" }, { isEarlierRun: true });
    const [app] = observed.containers;
    if (app) app.startFailure = "exec /bin/menu failed: No such file or directory";
    expect(reconcile(set, observed, historyOf(set), nowMs).action).toMatchObject({ kind: "start" });
  });

  it("is a failed start before the set has run, and counts once", () => {
    const set = setOf();
    const history = afterRunning(set, { hasRun: false });
    const stateTexts = { app: "exited 3", log: "created" } as const;
    const verdict = judge(set, stateTexts, { history });
    expect(verdict).toMatchObject({
      action: { kind: "fail", containers: ["app"], temporary: true },
      state: "starting",
      reason: { code: "container-exited", phase: "start" },
    });
    noteFailedRuns(history, observedSet(set, stateTexts), ["app"]);
    expect(judge(set, stateTexts, { history }).action.kind).toBe("wait");
  });

  it("fails the start permanently if no policy restarts it and it was never healthy", () => {
    const set = setOf({ names: ["app"], options: { ...http, restart: { on: "never" } } });
    const history = afterRunning(set, { hasRun: false });
    expect(judge(set, { app: "exited 0" }, { history }).action).toMatchObject({
      kind: "fail",
      temporary: false,
    });
  });

  it("lets the next index start after it has completed", () => {
    const set = setOf({ options: { restart: { on: "failure" } } });
    const history = afterRunning(set, { hasRun: false });
    const verdict = judge(set, { app: "exited 0", log: "created" }, { history });
    expect(verdict.action).toEqual({ kind: "start", containers: ["log"] });
  });
});

describe("a start that does not become healthy", () => {
  it("fails after the start period and the check's number of failures", () => {
    const set = setOf({
      names: ["app"],
      options: { health: { tcp: { port: 1 }, failureThreshold: 2, startPeriodSeconds: 10 } },
    });
    const history = historyOf(set);
    const observed = observedSet(set, { app: "running" });
    noteObserved(history, set, observed, now);
    const check = set.template.containers[0]?.options.health;
    const [seen] = observed.containers;
    if (!seen || !check) throw new Error("the template has a container with a check");
    const probeAt = (afterMs: number) => {
      noteProbe(history, seen, check, { healthy: false, detail: "refused" }, nowMs + afterMs);
      return reconcile(set, observed, history, nowMs + afterMs).action.kind;
    };
    expect(probeAt(1_000)).toBe("wait");
    expect(probeAt(9_999)).toBe("wait");
    expect(probeAt(10_000)).toBe("wait");
    expect(probeAt(12_000)).toBe("fail");
  });
});

describe("a set that should not run", () => {
  const up: [string, Record<string, ContainerStateText>, ObservedSetChanges][] = [
    ["everything runs", { app: "running", log: "running" }, {}],
    ["only infra runs", { app: "exited 0", log: "created" }, {}],
    ["one container runs", { app: "running" }, { infra: "absent" }],
  ];
  it.each(up)("is stopped when %s", (_what, stateTexts, changes) => {
    const verdict = judge(setOf({}, "stopped"), stateTexts, changes);
    expect(verdict).toMatchObject({
      action: { kind: "stop-all" },
      state: "stopping",
      ready: false,
    });
  });

  it("needs no step if nothing of it runs or exists", () => {
    const set = setOf({}, "stopped");
    const quiet = { action: { kind: "none" }, state: "stopped", ready: false, reason: null };
    expect(judge(set, { app: "exited 0", log: "created" }, { infra: "exited 0" })).toEqual(quiet);
    expect(reconcile(set, undefined, historyOf(set), nowMs)).toEqual(quiet);
  });

  it("is removed if it is deleted or unknown, and absent afterwards", () => {
    const set = setOf({}, "deleted");
    const observed = observedSet(set, { app: "exited 0" }, { infra: "absent" });
    for (const desired of [set, undefined]) {
      const history = desired ? historyOf(desired) : newSetHistory();
      expect(reconcile(desired, observed, history, nowMs).action.kind).toBe("remove");
      expect(reconcile(desired, undefined, history, nowMs)).toMatchObject({
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

  it("a set waits for its next attempt, with the failure as the reason", () => {
    const set = setOf();
    const history = historyOf(set);
    noteFailure(history, failure, { ...now, mayGiveUp: true, random: 0 });
    const verdict = reconcile(set, undefined, history, nowMs);
    expect(verdict).toMatchObject({
      action: { kind: "wait", untilMs: nowMs + 1_000 },
      state: "preparing",
      reason: { code: "docker-error" },
    });
    expect(reconcile(set, undefined, history, nowMs + 1_000).action.kind).toBe("prepare");
  });

  it("a failed set gets no further step, and nothing of it is removed", () => {
    const set = setOf();
    const history = historyOf(set);
    noteFailure(history, { ...failure, temporary: false }, { ...now, mayGiveUp: true, random: 0 });
    expect(judge(set, { app: "created", log: "created" }, { history })).toMatchObject({
      action: { kind: "none" },
      state: "failed",
      reason: { code: "docker-error" },
    });
  });

  it("a set that has run is always retried", () => {
    const set = setOf();
    const history = historyOf(set);
    noteRunning(history);
    for (let i = 0; i < 50; i++) {
      noteFailure(
        history,
        { ...failure, temporary: false },
        { ...now, mayGiveUp: true, random: 1 },
      );
    }
    const verdict = reconcile(set, undefined, history, nowMs + 75_000);
    expect(verdict).toMatchObject({ action: { kind: "prepare" }, state: "running", ready: false });
  });
});

describe("a container in the report", () => {
  it("is not ready without the set's network", () => {
    const set = setOf({ names: ["app"] });
    const [template] = set.template.containers;
    if (!template) throw new Error("a set is created");
    const ready = (changes: ObservedSetChanges) =>
      judgeContainer(template, observedSet(set, { app: "running" }, changes), historyOf(set)).ready;
    expect(ready({})).toBe(true);
    expect(ready({ infra: "exited 0" })).toBe(false);
    const absent = observedSet(set, {});
    expect(judgeContainer(template, absent, historyOf(set))).toEqual({
      ready: false,
      reason: null,
    });
  });
});

it("reports kills for lack of memory, with their number, while the container runs", () => {
  const set = setOf({ names: ["app"] });
  const history = afterRunning(set);
  const [template] = set.template.containers;
  if (!template) throw new Error("the set has a container");
  const kill = (oomKills: number) => {
    const observed = observedSet(set, { app: "running" });
    for (const seen of observed.containers) {
      seen.oomKills = oomKills;
      seen.memoryPeakBytes = 900;
      seen.limits = { cpuQuotaUs: 1_000, cpuShares: 2, memoryBytes: 1_000 };
    }
    noteObserved(history, set, observed, now);
    return judgeContainer(template, observed, history);
  };
  const usage = "peak memory 900 bytes, limit 1000 bytes";
  const text = '"app" ran out of memory and the kernel killed one of its processes';
  const reason = { code: "out-of-memory", text: `${text}; ${usage}` };
  expect(kill(1)).toMatchObject({ ready: true, reason });
  expect(kill(1)).toMatchObject({ ready: true, reason });
  const twice = { ...reason, text: `${text}, 3 times so far; ${usage}` };
  expect(kill(3)).toMatchObject({ ready: true, reason: twice });
  expect(history.containers.get("app")?.oomKills).toBe(3);
});

it("reports that a container ran out of memory even if Docker has no exit code", () => {
  const set = setOf({ names: ["app"] });
  const history = afterRunning(set);
  const observed = observedSet(set, { app: "exited 137" });
  for (const seen of observed.containers) {
    seen.oomKilled = true;
    seen.exitCode = undefined;
  }
  noteObserved(history, set, observed, now);
  expect(reconcile(set, observed, history, nowMs).reason).toMatchObject({
    code: "out-of-memory",
    text: '"app" exited with an unknown code (out of memory)',
  });
});
