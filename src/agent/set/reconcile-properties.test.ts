import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { localSet } from "../../../test/support/agent/local-set.ts";
import { VirtualClock } from "../../../test/support/agent/virtual-clock.ts";
import { desiredSetStates } from "../../contracts/api/sets.ts";
import { SimulatedEngine } from "../../host-adapters/simulated/simulated-engine.ts";
import { readClock } from "../base/clock.ts";
import type { ObservedLocalSet } from "../model/local-set.ts";
import { findObservedRun } from "./container-history.ts";
import { noteProbe } from "./container-run.ts";
import { noteReadiness } from "./drain.ts";
import { reconcile } from "./reconcile.ts";
import { laneOf, type ProbeStep, type Step } from "./steps.ts";
import { type RetriedStep, noteStepDone } from "./step-outcome.ts";
import { hashSpec } from "../model/spec-hash.ts";
import {
  type DesiredLocalSet,
  enterGeneration,
  newSetHistory,
  noteObserved,
  noteRunning,
  type SetHistory,
} from "./set-history.ts";

const hostId = "host_one";
const policies = ["always", "failure", "never"] as const;

/** Actions of anyone on the containers of a set, in any order. */
const disturbances = [
  "infra",
  "business",
  "start",
  "exit",
  "fail",
  "remove",
  "stop",
  "another",
] as const;

const scenario = fc.record({
  desired: fc.constantFrom(...desiredSetStates),
  indexes: fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 1, maxLength: 5 }),
  hasCheck: fc.boolean(),
  policy: fc.constantFrom(...policies),
  hasRun: fc.boolean(),
  disturbances: fc.array(fc.tuple(fc.constantFrom(...disturbances), fc.nat(10)), { maxLength: 20 }),
});
type Scenario = typeof scenario extends fc.Arbitrary<infer T> ? T : never;

function setOf({ desired, indexes, hasCheck, policy }: Scenario): DesiredLocalSet {
  const options = {
    restart: { on: policy },
    ...(hasCheck ? { health: { tcp: { port: 80 } } } : {}),
  };
  const made = localSet({ names: indexes.map((_, position) => `c${position}`), options });
  indexes.forEach((index, position) => {
    const container = made.template.containers[position];
    if (container) container.index = index;
  });
  return hashSpec({ ...made, desired });
}

async function prepareScene(chosen: Scenario) {
  const clock = new VirtualClock();
  const engine = new SimulatedEngine({ clock });
  const set = setOf(chosen);
  const other = structuredClone(set);
  for (const container of other.template.containers) container.options.env["A"] = "another";
  Object.assign(other, hashSpec(other));
  for (const [disturbance, which] of chosen.disturbances) {
    await clock.pass(1_000);
    act(engine, disturbance, disturbance === "another" ? other : set, which);
  }
  await clock.pass(1_000);
  return { clock, engine, set };
}

function act(
  engine: SimulatedEngine,
  disturbance: (typeof disturbances)[number],
  set: DesiredLocalSet,
  which: number,
): void {
  const seen = engine.observeSet(hostId, set.setId);
  const all = seen ? [seen.infra, ...seen.containers].filter((one) => one !== undefined) : [];
  const chosen = all[which % Math.max(1, all.length)];
  const isReady = seen?.infra?.state === "running";
  if (disturbance === "infra") engine.prepareInfra(hostId, set);
  else if (disturbance === "business" && seen?.infra) engine.prepareBusiness(hostId, set);
  else if (disturbance === "another") {
    engine.prepareInfra(hostId, set);
    engine.prepareBusiness(hostId, set);
  } else if (disturbance === "start" && isReady) {
    const name = seen.containers[which % Math.max(1, seen.containers.length)]?.name;
    if (name !== undefined) engine.start(hostId, set.setId, name);
  } else if (disturbance === "exit" && chosen) engine.exit(chosen.dockerId, 0);
  else if (disturbance === "fail" && chosen) engine.exit(chosen.dockerId, 1);
  else if (disturbance === "remove" && chosen) engine.removeExternally(chosen.dockerId);
  else if (disturbance === "stop") engine.stopAll(hostId, set.setId);
}

/** Performs a step that always succeeds. */
function perform(
  { engine, set, history }: { engine: SimulatedEngine; set: DesiredLocalSet; history: SetHistory },
  observed: ObservedLocalSet | undefined,
  step: RetriedStep,
  clock: VirtualClock,
): void {
  const { setId } = set;
  if (step.kind === "prepare") {
    engine.prepareInfra(hostId, set);
    engine.prepareBusiness(hostId, set);
  } else if (step.kind === "prepare-container")
    engine.prepareContainer(hostId, set, step.container);
  else if (step.kind === "start") engine.start(hostId, setId, step.container);
  else if (step.kind === "stop-failed-start") engine.stop(hostId, setId, step.container);
  else if (step.kind === "stop-all") engine.stopAll(hostId, setId);
  else if (step.kind === "remove") {
    engine.removeBusiness(hostId, setId);
    engine.removeInfra(hostId, setId);
  }
  const end = { random: 0, desired: set, generation: set.generation, observed, mayMove: false };
  noteStepDone(history, step, [], { ...end, ...readClock(clock) });
}

/** Takes steps until none remains, in a world where every step and every probe succeeds. */
async function converge(chosen: Scenario, isOver: () => boolean) {
  const { clock, engine, set } = await prepareScene(chosen);
  const history = newSetHistory();
  enterGeneration(history, set, () => chosen.hasRun);
  const steps: RetriedStep[] = [];
  for (;;) {
    const observed = engine.observeSet(hostId, set.setId);
    noteObserved(history, set, observed, readClock(clock));
    const verdict = reconcile(set, observed, history, clock.nowMs());
    expect(reconcile(set, observed, history, clock.nowMs())).toEqual(verdict);
    const lanes = verdict.steps.map(laneOf);
    expect(new Set(lanes).size).toBe(lanes.length);
    if (verdict.isComplete) noteRunning(history);
    const changes = verdict.steps.filter((step) => step.kind !== "probe");
    const probes = verdict.steps.filter((step) => step.kind === "probe");
    const isQuiet = verdict.steps.length === 0 && (verdict.ready || !isFinite(verdict.nextAtMs));
    if (isQuiet || isOver() || steps.length > 50)
      return { clock, engine, set, history, steps, verdict, observed };
    if (verdict.steps.length === 0) {
      expect(verdict.nextAtMs).toBeGreaterThan(clock.nowMs());
      await clock.pass(verdict.nextAtMs - clock.nowMs());
      continue;
    }
    for (const probe of probes) succeed(set, history, { observed, probe, nowMs: clock.nowMs() });
    for (const step of changes) {
      steps.push(step);
      await clock.pass(10);
      perform({ engine, set, history }, observed, step, clock);
    }
  }
}

function succeed(
  set: DesiredLocalSet,
  history: SetHistory,
  {
    observed,
    probe,
    nowMs,
  }: { observed: ObservedLocalSet | undefined; probe: ProbeStep; nowMs: number },
): void {
  const seen = observed?.containers.find(({ name }) => name === probe.container);
  const check = set.template.containers.find(({ name }) => name === probe.container)?.options
    .health;
  const run = seen && findObservedRun(history, seen);
  if (!run || !check) throw new Error("only running containers with a check are probed");
  noteProbe(run, check, { healthy: true }, nowMs);
}

/** True for a step that stops a container that clients may use. */
function stopsUsed(step: Step, observed: ObservedLocalSet | undefined): boolean {
  const up = observed?.containers.filter(({ state }) => state === "running") ?? [];
  if (step.kind === "stop-all" || step.kind === "remove") return up.length > 0;
  if (step.kind === "prepare") return up.length > 0 && observed?.infra?.state === "running";
  return step.kind === "prepare-container" && up.some(({ name }) => name === step.container);
}

describe("reconcile, from any observation", () => {
  it("converges in the steps of one start, and takes no further step", async () => {
    await fc.assert(
      fc.asyncProperty(scenario, async (chosen) => {
        const { steps, verdict, set, observed } = await converge(chosen, () => false);
        // One preparation of the set, and for each container a preparation, a failed start that
        // exited earlier, and a start.
        expect(steps.length).toBeLessThanOrEqual(1 + 3 * chosen.indexes.length);
        if (set.desired === "running") {
          expect(verdict.state).toBe("running");
          expect(observed?.infra?.state).toBe("running");
          expect(observed?.containers.length).toBe(chosen.indexes.length);
        } else if (set.desired === "stopped") {
          const all = [observed?.infra, ...(observed?.containers ?? [])];
          expect(all.filter((seen) => seen?.state === "running")).toEqual([]);
        } else expect(observed).toBeUndefined();
      }),
    );
  });

  it("never starts a container before those with lower indexes have come up", async () => {
    await fc.assert(
      fc.asyncProperty(scenario, async (chosen) => {
        const { steps, set } = await converge({ ...chosen, disturbances: [] }, () => false);
        const indexOf = (name: string) =>
          set.template.containers.find((container) => container.name === name)?.index ?? -1;
        const order = steps.flatMap((step) =>
          step.kind === "start" ? [indexOf(step.container)] : [],
        );
        expect(order).toEqual(order.toSorted((a, b) => a - b));
      }),
    );
  });

  it("stops nothing that clients use before the drain time", async () => {
    await fc.assert(
      fc.asyncProperty(scenario, async (chosen) => {
        const { clock, engine, set } = await prepareScene(chosen);
        set.template.drainSeconds = 5;
        const history = newSetHistory();
        enterGeneration(history, set, () => chosen.hasRun);
        const observed = engine.observeSet(hostId, set.setId);
        noteObserved(history, set, observed, readClock(clock));
        const { readiness } = history;
        noteReadiness(readiness, set, observed, { isReady: true, nowMs: clock.nowMs() });
        for (let elapsedMs = 0; elapsedMs < 5_000; elapsedMs += 1_250) {
          const nowMs = clock.nowMs();
          const { steps, ready } = reconcile(set, observed, history, nowMs);
          expect(steps.filter((step) => stopsUsed(step, observed))).toEqual([]);
          noteReadiness(readiness, set, observed, { isReady: ready, nowMs });
          await clock.pass(1_250);
        }
      }),
    );
  });

  it("converges even if the history is lost after any step", async () => {
    await fc.assert(
      fc.asyncProperty(scenario, fc.nat(6), async (chosen, stepsBefore) => {
        let looks = 0;
        const { engine, set, clock } = await converge(chosen, () => looks++ > stepsBefore);
        const history = newSetHistory();
        enterGeneration(history, set, () => chosen.hasRun);
        for (let step = 0; step < 50; step++) {
          const observed = engine.observeSet(hostId, set.setId);
          noteObserved(history, set, observed, readClock(clock));
          const verdict = reconcile(set, observed, history, clock.nowMs());
          const changes = verdict.steps.filter((one) => one.kind !== "probe");
          // All containers have started, and at most probes remain.
          if (changes.length === 0 && (verdict.steps.length > 0 || !isFinite(verdict.nextAtMs)))
            return;
          if (changes.length === 0) await clock.pass(verdict.nextAtMs - clock.nowMs());
          for (const change of changes) {
            await clock.pass(10);
            perform({ engine, set, history }, observed, change, clock);
          }
        }
        expect.fail("it does not converge");
      }),
    );
  });
});
