import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { localSet } from "../../test/support/agent/local-set.ts";
import { VirtualClock } from "../../test/support/agent/virtual-clock.ts";
import { setDesires } from "../contracts/api/sets.ts";
import { SimulatedEngine } from "./adapters/simulated/simulated-engine.ts";
import type { ObservedLocalSet } from "./ports/set-port.ts";
import { noteFailedLives, noteProbe } from "./container-memory.ts";
import { reconcile, type SetAction } from "./reconcile.ts";
import {
  type DesiredLocalSet,
  enterGeneration,
  newSetMemory,
  noteObserved,
  noteRunning,
} from "./set-memory.ts";

const hostId = "host_one";
const policies = ["always", "failure", "never"] as const;

/** What anybody may have done to a set, in any order. */
const deeds = ["infra", "business", "start", "exit", "fail", "remove", "stop", "another"] as const;

const scenario = fc.record({
  desired: fc.constantFrom(...setDesires),
  indexes: fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 1, maxLength: 5 }),
  hasCheck: fc.boolean(),
  policy: fc.constantFrom(...policies),
  hasRun: fc.boolean(),
  deeds: fc.array(fc.tuple(fc.constantFrom(...deeds), fc.nat(10)), { maxLength: 20 }),
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
  for (const [deed, which] of chosen.deeds) {
    await clock.pass(1_000);
    act(engine, deed, deed === "another" ? other : set, which);
  }
  await clock.pass(1_000);
  return { clock, engine, set };
}

function act(
  engine: SimulatedEngine,
  deed: (typeof deeds)[number],
  set: DesiredLocalSet,
  which: number,
): void {
  const seen = engine.observeSet(hostId, set.setId);
  const all = seen ? [seen.infra, ...seen.containers].filter((one) => one !== undefined) : [];
  const chosen = all[which % Math.max(1, all.length)];
  const isReady = seen?.infra?.state === "running";
  if (deed === "infra") engine.prepareInfra(hostId, set);
  else if (deed === "business" && seen?.infra) engine.prepareBusiness(hostId, set);
  else if (deed === "another") {
    engine.prepareInfra(hostId, set);
    engine.prepareBusiness(hostId, set);
  } else if (deed === "start" && isReady) {
    const name = seen.containers[which % Math.max(1, seen.containers.length)]?.name;
    if (name !== undefined) engine.start(hostId, set.setId, name);
  } else if (deed === "exit" && chosen) engine.exit(chosen.dockerId, 0);
  else if (deed === "fail" && chosen) engine.exit(chosen.dockerId, 1);
  else if (deed === "remove" && chosen) engine.removeBehind(chosen.dockerId);
  else if (deed === "stop") engine.stopAll(hostId, set.setId);
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

/** Steps until there is nothing to do, in a world where every step and every probe succeeds. */
async function converge(chosen: Scenario, isOver: () => boolean) {
  const { clock, engine, set } = await prepareScene(chosen);
  const memory = newSetMemory();
  enterGeneration(memory, set, () => chosen.hasRun);
  const steps: SetAction[] = [];
  const look = (): ObservedLocalSet | undefined => {
    const observed = engine.observeSet(hostId, set.setId);
    noteObserved(memory, set, observed, clock.nowMs());
    return observed;
  };
  for (;;) {
    const observed = look();
    const verdict = reconcile(set, observed, memory, clock.nowMs());
    expect(reconcile(set, observed, memory, clock.nowMs())).toEqual(verdict);
    if (verdict.state === "running") noteRunning(memory);
    const { action } = verdict;
    const isProbed = action.kind === "wait" && verdict.ready;
    if (action.kind === "none" || isProbed || isOver() || steps.length > 50) {
      return { clock, engine, set, memory, steps, verdict, observed };
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
        if (!seen || !check) throw new Error("only what is there and has a check is probed");
        noteProbe(memory, seen, check, { healthy: true }, clock.nowMs());
      }
      continue;
    }
    steps.push(action);
    if (action.kind === "fail") noteFailedLives(memory, observed, action.containers);
    await clock.pass(10);
    perform(engine, set, action);
  }
}

describe("reconcile, from whatever there is", () => {
  it("arrives in as many steps as a start has, and then does nothing", async () => {
    await fc.assert(
      fc.asyncProperty(scenario, async (chosen) => {
        const { steps, verdict, set, observed } = await converge(chosen, () => false);
        const indexes = new Set(chosen.indexes).size;
        // Prepare once and start each index once; what has ended before may have to be counted as failed first.
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

  it("never starts a container before those of lower indexes have come up", async () => {
    await fc.assert(
      fc.asyncProperty(scenario, async (chosen) => {
        const { steps, set } = await converge({ ...chosen, deeds: [] }, () => false);
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

  it("comes to the same end when it is forgotten after any step what was done", async () => {
    await fc.assert(
      fc.asyncProperty(scenario, fc.nat(6), async (chosen, stepsBefore) => {
        let looks = 0;
        const { engine, set, clock } = await converge(chosen, () => looks++ > stepsBefore);
        const memory = newSetMemory();
        enterGeneration(memory, set, () => chosen.hasRun);
        for (let step = 0; step < 50; step++) {
          const observed = engine.observeSet(hostId, set.setId);
          noteObserved(memory, set, observed, clock.nowMs());
          const { action } = reconcile(set, observed, memory, clock.nowMs());
          if (action.kind === "none") return;
          if (action.kind === "wait") await clock.pass(action.untilMs - clock.nowMs());
          if (action.kind === "fail") noteFailedLives(memory, observed, action.containers);
          if (action.kind === "probe") return; // all is started, and its checks decide
          await clock.pass(10);
          perform(engine, set, action);
        }
        expect.fail("there is no end to it");
      }),
    );
  });
});
