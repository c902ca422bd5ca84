import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { localSet } from "../../../test/support/agent/local-set.ts";
import { VirtualClock } from "../../../test/support/agent/virtual-clock.ts";
import { desiredSetStates } from "../../contracts/api/sets.ts";
import { SimulatedEngine } from "../../host-adapters/simulated/simulated-engine.ts";
import { readClock } from "../base/clock.ts";
import type { ObservedLocalSet } from "../model/local-set.ts";
import { noteFailedRuns, noteProbe } from "./container-history.ts";
import { reconcile, type SetAction } from "./reconcile.ts";
import {
  type DesiredLocalSet,
  enterGeneration,
  newSetHistory,
  noteObserved,
  noteRunning,
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
  return { ...made, desired };
}

async function prepareScene(chosen: Scenario) {
  const clock = new VirtualClock();
  const engine = new SimulatedEngine({ clock });
  const set = setOf(chosen);
  const other = structuredClone(set);
  for (const container of other.template.containers) container.options.env["A"] = "another";
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

function perform(engine: SimulatedEngine, set: DesiredLocalSet, action: SetAction): void {
  const { setId } = set;
  if (action.kind === "prepare") {
    engine.prepareInfra(hostId, set);
    engine.prepareBusiness(hostId, set);
  } else if (action.kind === "start") {
    for (const name of action.containers) engine.start(hostId, setId, name);
  } else if (action.kind === "fail") {
    for (const name of action.containers) engine.stop(hostId, setId, name);
  } else if (action.kind === "stop-all") engine.stopAll(hostId, setId);
  else if (action.kind === "remove") {
    engine.removeBusiness(hostId, setId);
    engine.removeInfra(hostId, setId);
  }
}

/** Takes steps until none remains, in a world where every step and every probe succeeds. */
async function converge(chosen: Scenario, isOver: () => boolean) {
  const { clock, engine, set } = await prepareScene(chosen);
  const history = newSetHistory();
  enterGeneration(history, set, () => chosen.hasRun);
  const steps: SetAction[] = [];
  const look = (): ObservedLocalSet | undefined => {
    const observed = engine.observeSet(hostId, set.setId);
    noteObserved(history, set, observed, readClock(clock));
    return observed;
  };
  for (;;) {
    const observed = look();
    const verdict = reconcile(set, observed, history, clock.nowMs());
    expect(reconcile(set, observed, history, clock.nowMs())).toEqual(verdict);
    if (verdict.state === "running") noteRunning(history);
    const { action } = verdict;
    const isProbed = action.kind === "wait" && verdict.ready;
    if (action.kind === "none" || isProbed || isOver() || steps.length > 50) {
      return { clock, engine, set, history, steps, verdict, observed };
    }
    if (action.kind === "wait") {
      expect(action.untilMs).toBeGreaterThan(clock.nowMs());
      await clock.pass(action.untilMs - clock.nowMs());
      continue;
    }
    if (action.kind === "probe") {
      for (const name of action.containers) {
        const seen = observed?.containers.find((container) => container.name === name);
        const check = set.template.containers.find((one) => one.name === name)?.options.health;
        if (!seen || !check) throw new Error("only existing containers with a check are probed");
        noteProbe(history, seen, check, { healthy: true }, clock.nowMs());
      }
      continue;
    }
    steps.push(action);
    if (action.kind === "fail") noteFailedRuns(history, observed, action.containers);
    await clock.pass(10);
    perform(engine, set, action);
  }
}

describe("reconcile, from any observation", () => {
  it("converges in the steps of one start, and takes no further step", async () => {
    await fc.assert(
      fc.asyncProperty(scenario, async (chosen) => {
        const { steps, verdict, set, observed } = await converge(chosen, () => false);
        const indexes = new Set(chosen.indexes).size;
        // One preparation, one start per index, and one failed start for each container that exited
        // earlier.
        expect(steps.length).toBeLessThanOrEqual(1 + indexes + chosen.indexes.length);
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
        const started = steps.flatMap((step) =>
          step.kind === "start" ? [step.containers.map(indexOf)] : [],
        );
        expect(started.every((group) => new Set(group).size === 1)).toBe(true);
        const order = started.map(([index]) => index ?? -1);
        expect(order).toEqual(order.toSorted((a, b) => a - b));
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
          const { action } = reconcile(set, observed, history, clock.nowMs());
          if (action.kind === "none") return;
          if (action.kind === "wait") await clock.pass(action.untilMs - clock.nowMs());
          if (action.kind === "fail") noteFailedRuns(history, observed, action.containers);
          // All containers have started, and only probes remain.
          if (action.kind === "probe") return;
          await clock.pass(10);
          perform(engine, set, action);
        }
        expect.fail("it does not converge");
      }),
    );
  });
});
