import { hashSpec } from "../model/spec-hash.ts";
import { describe, expect, it } from "vitest";
import { localSet, type LocalSetChanges } from "../../../test/support/agent/local-set.ts";
import {
  infraStartedAtMs,
  observedSet,
  type ObservedSetChanges,
  type ContainerStateText,
} from "../../../test/support/fleet/observed-set.ts";
import type { DesiredSetState } from "../../contracts/api/sets.ts";
import { noteFailure } from "./attempts.ts";
import { computeStatuses, judgeContainer } from "./container-status.ts";
import { reconcile } from "./reconcile.ts";
import {
  type DesiredLocalSet,
  enterGeneration,
  newSetHistory,
  noteObserved,
  noteRunning,
  type SetHistory,
} from "./set-history.ts";
import type { HealthCheck } from "../../contracts/api/set-template.ts";
import type { ObservedContainer, ObservedLocalSet, ProbeResult } from "../model/local-set.ts";
import { ensureContainerHistory, findObservedRun, noteFailedRun } from "./container-history.ts";
import { noteProbe } from "./container-run.ts";

const nowMs = infraStartedAtMs + 20_000;
const now = { nowMs, wallMs: nowMs };
const http = { health: { http: { port: 80 } } };

function setOf(
  changes: LocalSetChanges = {},
  desired: DesiredSetState = "running",
): DesiredLocalSet {
  return hashSpec({ ...localSet({ names: ["app", "log"], ...changes }), desired });
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

/** The report on the only container of a set. */
function judgeOnly(set: DesiredLocalSet, observed: ObservedLocalSet, history: SetHistory) {
  const [status] = computeStatuses(set, observed, history);
  if (!status) throw new Error("the set has a container");
  return judgeContainer(status, observed);
}

/** Records a probe of a container. */
function probe(
  history: SetHistory,
  seen: ObservedContainer,
  check: HealthCheck,
  result: ProbeResult,
  atMs: number,
) {
  const run = findObservedRun(history, seen);
  if (!run) throw new Error("the container has an observed run");
  noteProbe(run, check, result, atMs);
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
      steps: [{ kind: "prepare" }],
      state: "preparing",
    });
  });

  const unprepared: [string, Record<string, ContainerStateText>, ObservedSetChanges][] = [
    ["infra does not exist", { app: "created", log: "created" }, { infra: "absent" }],
    ["infra has exited", { app: "running", log: "running" }, { infra: "exited 137" }],
    ["infra is outdated", { app: "created", log: "created" }, { outdated: "infra" }],
  ];
  it.each(unprepared)("is prepared when %s", (_what, stateTexts, changes) => {
    expect(judge(setOf(), stateTexts, changes).steps).toEqual([{ kind: "prepare" }]);
  });

  it("is prepared again for a newer restart, and to remove an extra container", () => {
    const set = setOf();
    const observed = observedSet(set, { app: "running", log: "running" });
    const restarted = hashSpec({ ...set, restartGeneration: 2 });
    expect(reconcile(restarted, observed, historyOf(set), nowMs).steps).toMatchObject([
      { kind: "prepare" },
    ]);
    const smaller = structuredClone(set);
    smaller.template.containers.pop();
    expect(reconcile(smaller, observed, historyOf(set), nowMs).steps).toMatchObject([
      { kind: "prepare" },
    ]);
  });

  it("is not prepared again while Docker lists its infra container and does not describe it", () => {
    const set = setOf();
    const observed = observedSet(set, { app: "running", log: "running" });
    // Docker describes no labels, so the container seems outdated.
    const infra = { ...observed.infra, isUnknown: true, specHash: "" } as ObservedContainer;
    const unknown = { ...observed, infra };
    expect(reconcile(set, unknown, historyOf(set), nowMs).steps).not.toContainEqual(
      expect.objectContaining({ kind: "prepare" }),
    );
  });

  it("is started by index, with equal indexes together", () => {
    let set = setOf({ names: ["a", "b", "c"] });
    for (const [position, index] of [5, 5, 9].entries()) {
      const container = set.template.containers[position];
      if (container) container.index = index;
    }
    set = hashSpec(set);
    const first = judge(set, { a: "created", b: "created", c: "created" });
    expect(first).toMatchObject({
      steps: [
        { kind: "start", container: "a" },
        { kind: "start", container: "b" },
      ],
      state: "starting",
    });
    const second = judge(set, { a: "running", b: "running", c: "created" });
    expect(second.steps).toEqual([{ kind: "start", container: "c" }]);
    const third = judge(set, { a: "running", b: "running", c: "running" });
    expect(third).toEqual({
      steps: [],
      nextAtMs: Infinity,
      state: "running",
      ready: true,
      isComplete: true,
      reason: null,
    });
  });

  it("starts the next index only after containers with a health check have been healthy", () => {
    const set = setOf({ options: http });
    const history = historyOf(set);
    const stateTexts = { app: "running", log: "created" } as const;
    expect(judge(set, stateTexts, { history }).steps).toEqual([
      { kind: "probe", container: "app" },
    ]);
    const [seen] = observedSet(set, stateTexts).containers;
    const check = set.template.containers[0]?.options.health;
    if (!seen || !check) throw new Error("the template has a container with a check");
    probe(history, seen, check, { healthy: false, detail: "refused" }, nowMs);
    expect(judge(set, stateTexts, { history })).toMatchObject({
      steps: [],
      nextAtMs: nowMs + 25,
      ready: false,
      reason: { code: "not-healthy" },
    });
    probe(history, seen, check, { healthy: true }, nowMs);
    expect(judge(set, stateTexts, { history }).steps).toEqual([
      { kind: "start", container: "log" },
    ]);
  });

  it("is not ready after it becomes unhealthy, and is probed further", () => {
    const set = setOf({ names: ["app"], options: http });
    const history = afterRunning(set);
    const stateTexts = { app: "running" } as const;
    const [seen] = observedSet(set, stateTexts).containers;
    const check = set.template.containers[0]?.options.health;
    if (!seen || !check) throw new Error("the template has a container with a check");
    probe(history, seen, check, { healthy: true }, nowMs);
    expect(judge(set, stateTexts, { history })).toMatchObject({ state: "running", ready: true });
    for (let i = 0; i < 3; i++)
      probe(history, seen, check, { healthy: false, detail: "500" }, nowMs);
    expect(judge(set, stateTexts, { history })).toMatchObject({
      steps: [],
      nextAtMs: nowMs + 2_000,
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
    expect(verdict.steps).toEqual([{ kind: "start", container: "app" }]);
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
      steps: [],
      nextAtMs: nowMs + 1_000,
      state: "running",
      ready: false,
    });
  });
});

describe("the lanes of a running set", () => {
  const broken: [string, Record<string, ContainerStateText>, ObservedSetChanges][] = [
    ["is missing", { app: "running" }, {}],
    ["is outdated", { app: "running", log: "running" }, { outdated: "log" }],
    ["has lost its network", { app: "running", log: "dead" }, {}],
  ];
  it.each(broken)("prepare only a container that %s", (_what, stateTexts, changes) => {
    const set = setOf();
    const verdict = judge(set, stateTexts, { history: afterRunning(set), ...changes });
    expect(verdict).toMatchObject({
      steps: [{ kind: "prepare-container", container: "log" }],
      state: "running",
      ready: false,
    });
  });

  it("pull a missing image without a delay for the other containers", () => {
    const set = setOf();
    const history = afterRunning(set);
    ensureContainerHistory(history, "log").needsImage = true;
    const restarted = judge(set, { app: "exited 1" }, { history });
    expect(restarted.steps).toEqual([{ kind: "pull", container: "log" }]);
    expect(restarted.nextAtMs).toBe(nowMs + 1_000);
    const verdict = reconcile(set, observedSet(set, { app: "exited 1" }), history, nowMs + 1_000);
    expect(verdict.steps).toEqual([
      { kind: "start", container: "app" },
      { kind: "pull", container: "log" },
    ]);
  });

  it("have backoffs of their own", () => {
    const set = setOf({ names: ["a", "b"] });
    const history = afterRunning(set);
    const reason = { code: "docker-error", text: "no", phase: "prepare" };
    const failure = { reason, temporary: true, isUnavailable: false };
    const { attempts } = ensureContainerHistory(history, "a");
    noteFailure(attempts, failure, { ...now, mayGiveUp: false, random: 0 });
    const verdict = judge(set, {}, { history });
    expect(verdict).toMatchObject({
      steps: [{ kind: "prepare-container", container: "b" }],
      nextAtMs: nowMs + 1_000,
      reason,
    });
  });

  it("stop before all containers are replaced, until the images are there", () => {
    const set = setOf();
    const history = historyOf(set);
    history.awaitsImages = true;
    ensureContainerHistory(history, "app").needsImage = true;
    const running = { app: "running", log: "running" } as const;
    const verdict = () => judge(set, running, { history, outdated: "infra" });
    expect(verdict().steps).toEqual([{ kind: "pull", container: "app" }]);
    ensureContainerHistory(history, "app").needsImage = false;
    expect(verdict().steps).toEqual([{ kind: "prepare" }]);
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
        steps: [],
        nextAtMs: nowMs + 1_000,
        ready: false,
        reason: { code: "container-exited" },
      });
    } else {
      expect(verdict).toMatchObject({ steps: [], ready: exitCode === 0 });
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
    expect(verdict.steps).toEqual([
      { kind: "start", container: "app" },
      { kind: "start", container: "log" },
    ]);
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
      expect(reconcile(set, observed, history, nowMs).steps).toMatchObject([
        {
          kind: "stop-failed-start",
          temporary: false,
          reason: {
            code: "start-failed",
            phase: "start",
            text: '"app" cannot be started: exec /bin/menu failed: No such file or directory',
          },
        },
      ]);
    },
  );

  it("is restarted if its command could not be executed in an earlier run of infra", () => {
    const set = setOf({ names: ["app"] });
    const observed = observedSet(set, { app: "exited 127" }, { isEarlierRun: true });
    const [app] = observed.containers;
    if (app) app.startFailure = "exec /bin/menu failed: No such file or directory";
    expect(reconcile(set, observed, historyOf(set), nowMs).steps).toMatchObject([
      { kind: "start" },
    ]);
  });

  it("is a failed start before the set has run, and counts once", () => {
    const set = setOf();
    const history = afterRunning(set, { hasRun: false });
    const stateTexts = { app: "exited 3", log: "created" } as const;
    const verdict = judge(set, stateTexts, { history });
    expect(verdict).toMatchObject({
      steps: [{ kind: "stop-failed-start", container: "app", temporary: true }],
      state: "starting",
      reason: { code: "container-exited", phase: "start" },
    });
    noteFailedRun(history, observedSet(set, stateTexts), "app");
    expect(judge(set, stateTexts, { history }).steps).toEqual([]);
  });

  it("fails the start permanently if no policy restarts it and it was never healthy", () => {
    const set = setOf({ names: ["app"], options: { ...http, restart: { on: "never" } } });
    const history = afterRunning(set, { hasRun: false });
    expect(judge(set, { app: "exited 0" }, { history }).steps).toMatchObject([
      { kind: "stop-failed-start", temporary: false },
    ]);
  });

  it("lets the next index start after it has completed", () => {
    const set = setOf({ options: { restart: { on: "failure" } } });
    const history = afterRunning(set, { hasRun: false });
    const verdict = judge(set, { app: "exited 0", log: "created" }, { history });
    expect(verdict.steps).toEqual([{ kind: "start", container: "log" }]);
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
      probe(history, seen, check, { healthy: false, detail: "refused" }, nowMs + afterMs);
      return reconcile(set, observed, history, nowMs + afterMs).steps.map(({ kind }) => kind);
    };
    expect(probeAt(1_000)).toEqual([]);
    expect(probeAt(9_999)).toEqual([]);
    expect(probeAt(10_000)).toEqual([]);
    expect(probeAt(12_000)).toEqual(["stop-failed-start"]);
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
      steps: [{ kind: "stop-all" }],
      state: "stopping",
      ready: false,
    });
  });

  it("needs no step if nothing of it runs or exists", () => {
    const set = setOf({}, "stopped");
    const quiet = { steps: [], nextAtMs: Infinity, state: "stopped", ready: false, reason: null };
    const down = judge(set, { app: "exited 0", log: "created" }, { infra: "exited 0" });
    expect(down).toMatchObject(quiet);
    expect(reconcile(set, undefined, historyOf(set), nowMs)).toMatchObject(quiet);
  });

  it("is removed if it is deleted or unknown, and absent afterwards", () => {
    const set = setOf({}, "deleted");
    const observed = observedSet(set, { app: "exited 0" }, { infra: "absent" });
    for (const desired of [set, undefined]) {
      const history = desired ? historyOf(desired) : newSetHistory();
      expect(reconcile(desired, observed, history, nowMs).steps).toMatchObject([
        { kind: "remove" },
      ]);
      expect(reconcile(desired, undefined, history, nowMs)).toMatchObject({
        steps: [],
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
    noteFailure(history.attempts, failure, { ...now, mayGiveUp: true, random: 0 });
    const verdict = reconcile(set, undefined, history, nowMs);
    expect(verdict).toMatchObject({
      steps: [],
      nextAtMs: nowMs + 1_000,
      state: "preparing",
      reason: { code: "docker-error" },
    });
    expect(reconcile(set, undefined, history, nowMs + 1_000).steps).toMatchObject([
      { kind: "prepare" },
    ]);
  });

  it("a failed set gets no further step, and nothing of it is removed", () => {
    const set = setOf();
    const history = historyOf(set);
    noteFailure(
      history.attempts,
      { ...failure, temporary: false },
      { ...now, mayGiveUp: true, random: 0 },
    );
    expect(judge(set, { app: "created", log: "created" }, { history })).toMatchObject({
      steps: [],
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
        history.attempts,
        { ...failure, temporary: false },
        { ...now, mayGiveUp: !history.hasRun, random: 1 },
      );
    }
    const verdict = reconcile(set, undefined, history, nowMs + 75_000);
    expect(verdict).toMatchObject({ steps: [{ kind: "prepare" }], state: "running", ready: false });
  });
});

describe("a container in the report", () => {
  it("is not ready without the set's network", () => {
    const set = setOf({ names: ["app"] });
    const ready = (changes: ObservedSetChanges) =>
      judgeOnly(set, observedSet(set, { app: "running" }, changes), historyOf(set)).ready;
    expect(ready({})).toBe(true);
    expect(ready({ infra: "exited 0" })).toBe(false);
    const absent = observedSet(set, {});
    expect(judgeOnly(set, absent, historyOf(set))).toEqual({
      ready: false,
      reason: null,
    });
  });
});

it("reports kills for lack of memory, with their number, while the container runs", () => {
  const set = setOf({ names: ["app"] });
  const history = afterRunning(set);
  const kill = (oomKills: number) => {
    const observed = observedSet(set, { app: "running" });
    for (const seen of observed.containers) {
      seen.oomKills = oomKills;
      seen.memoryPeakBytes = 900;
      seen.limits = { cpuQuotaUs: 1_000, cpuShares: 2, memoryBytes: 1_000 };
    }
    noteObserved(history, set, observed, now);
    return judgeOnly(set, observed, history);
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
