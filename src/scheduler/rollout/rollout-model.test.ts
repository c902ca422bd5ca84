import type { RolloutStrategy } from "../../contracts/api/rollouts.ts";
import { expect, describe, test } from "vitest";
import fc from "fast-check";
import { RolloutModel } from "../../../test/support/fleet/rollout-model.ts";
import type { Behavior, ModelOptions } from "../../../test/support/fleet/service-model.ts";
import { seededRandom } from "../../../test/support/seeded-random.ts";
import type { TemplateDiff } from "./compare-templates.ts";

/**
 * Runs the planner in a loop against a model of one service. Each run has a seed, and fast-check
 * prints it with a counterexample.
 */

const imageDiff: TemplateDiff = {
  level: "containers",
  containers: ["app"],
  changesImages: true,
  setMembers: [],
  servesDuringUpdate: false,
  needsNewSet: null,
};

const defaultStrategy: RolloutStrategy = {
  method: "auto",
  steps: [
    { select: { count: 1 }, promote: { afterSeconds: 10 } },
    { select: { percent: 50 }, promote: "auto" },
    { select: { percent: 100 }, promote: "auto" },
  ],
  parallel: null,
  progressDeadlineSeconds: 60,
  onFailure: "pause",
  unreadySeconds: 10,
  restartsMax: 3,
};

const ready: Behavior = { kind: "ready", afterMs: 3_000 };
const broken: fc.Arbitrary<Behavior> = fc.constantFrom<Behavior>(
  { kind: "never-ready" },
  { kind: "crash-loop" },
  { kind: "gives-up" },
  { kind: "ready-then-unready", afterMs: 2_000, forMs: 4_000 },
);

const services: fc.Arbitrary<Omit<ModelOptions, "behaviors">> = fc.record({
  replicas: fc.integer({ min: 0, max: 12 }),
  hosts: fc.integer({ min: 2, max: 5 }),
  zones: fc.integer({ min: 1, max: 3 }),
  budget: fc.record({
    maxUnavailable: fc.constantFrom(1, 2, "25%"),
    maxSurge: fc.constantFrom(0, 1, "25%"),
    minReadySeconds: fc.constantFrom(0, 3),
  }),
  diff: fc.boolean().map((servesDuringUpdate) => ({ ...imageDiff, servesDuringUpdate })),
  hasVolume: fc.boolean(),
  pullMs: fc.constantFrom(0, 5_000),
});
const strategies: fc.Arbitrary<RolloutStrategy> = fc.record({
  method: fc.constantFrom("auto" as const, "start-first" as const, "in-place" as const),
  steps: fc.constantFrom(
    defaultStrategy.steps,
    [{ select: { percent: 100 }, promote: "auto" as const }],
    [
      { select: { zones: ["zone_0"] }, promote: "auto" as const },
      { select: { percent: 100 }, promote: { afterSeconds: 3 } },
    ],
  ),
  parallel: fc.constantFrom(null, 1, "50%"),
  progressDeadlineSeconds: fc.constant(60),
  onFailure: fc.constantFrom("pause" as const, "rollback" as const),
  unreadySeconds: fc.constant(10),
  restartsMax: fc.constant(3),
});

const ROUNDS_MAX = 2_000;
const runs = { numRuns: 100 };

function create(options: Omit<ModelOptions, "behaviors">, target: Behavior): RolloutModel {
  return new RolloutModel({ ...options, behaviors: { 1: ready, 2: target, 3: ready } });
}

function stateOf({ rollout }: RolloutModel): string | undefined {
  return rollout?.state;
}

function revisionsOf({ replicas }: RolloutModel): number[] {
  return [...new Set(replicas.map(({ revision }) => revision))].sort((a, b) => a - b);
}

describe("a rollout of a healthy target", () => {
  test("completes, and each replica has the target and is available", () => {
    fc.assert(
      fc.property(services, strategies, (options, strategy) => {
        const model = create(options, ready);
        model.start(1, 2, strategy);
        expect(model.runUntilStill(ROUNDS_MAX)).toBe(true);
        expect(stateOf(model)).toBe("completed");
        expect(model.violations).toEqual([]);
        expect(revisionsOf(model)).toEqual(options.replicas > 0 ? [2] : []);
      }),
      runs,
    );
  });

  test("a rollback returns every set from any moment of a rollout", () => {
    fc.assert(
      fc.property(services, strategies, fc.nat(60), (options, strategy, rounds) => {
        const model = create(options, ready);
        model.start(1, 2, strategy);
        model.runUntilStill(rounds);
        const wasCompleted = stateOf(model) === "completed";
        model.rollBack();
        expect(model.runUntilStill(ROUNDS_MAX)).toBe(true);
        expect(stateOf(model)).toBe(wasCompleted ? "completed" : "rolled-back");
        if (!wasCompleted) expect(revisionsOf(model)).toEqual(options.replicas > 0 ? [1] : []);
        expect(model.sets.every(({ operation }) => operation === undefined)).toBe(true);
        expect(model.violations).toEqual([]);
      }),
      runs,
    );
  });

  test("the partition moves down and up, and then the rollout completes", () => {
    const percents = fc.array(fc.integer({ min: 1, max: 99 }), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(services, strategies, percents, fc.nat(30), (options, strategy, list, rounds) => {
        const model = create(options, ready);
        model.start(1, 2, strategy);
        model.runUntilStill(rounds);
        fc.pre(stateOf(model) === "running");
        for (const percent of list) {
          model.promoteTo({ percent });
          model.runUntilStill(400);
          const atTarget = model.replicas.filter(({ revision }) => revision === 2).length;
          expect(atTarget).toBe(Math.ceil((percent * options.replicas) / 100));
          expect(stateOf(model)).toBe("running");
        }
        model.promoteTo({ percent: 100 });
        expect(model.runUntilStill(ROUNDS_MAX)).toBe(true);
        expect(stateOf(model)).toBe("completed");
        expect(model.violations).toEqual([]);
      }),
      { numRuns: 30 },
    );
  });
});

describe("a rollout of a broken target", () => {
  test("pauses or returns, and affects at most the sets of its first step", () => {
    fc.assert(
      fc.property(services, strategies, broken, (options, strategy, behavior) => {
        fc.pre(options.replicas > 0);
        const model = create(options, behavior);
        const selected = model.replicas.filter(({ host }) => host.zone === "zone_0").length;
        const [first] = strategy.steps;
        const isSoaked = first !== undefined && "count" in first.select;
        const isSoon = behavior.kind !== "ready-then-unready";
        const isByZone = first !== undefined && "zones" in first.select;
        // Without a soak time, a set that is ready for some seconds promotes its step.
        const wanted = isSoaked ? 1 : isSoon && isByZone ? selected : options.replicas;
        model.start(1, 2, strategy);
        let touched = 0;
        for (let round = 0; round < ROUNDS_MAX; round++) {
          model.advance(1_000);
          model.round();
          touched = Math.max(touched, model.sets.filter(({ revision }) => revision === 2).length);
          if (stateOf(model) !== "running") break;
        }
        expect(touched).toBeLessThanOrEqual(wanted);
        model.runUntilStill(ROUNDS_MAX);
        const ended = strategy.onFailure === "pause" ? "paused" : "rolled-back";
        // A target that is ready for some seconds may complete before it becomes unready.
        const states = behavior.kind === "ready-then-unready" ? [ended, "completed"] : [ended];
        expect(states).toContain(stateOf(model));
        expect(model.violations).toEqual([]);
      }),
      runs,
    );
  });

  test("a rollout that repairs it supersedes it and completes from any moment", () => {
    fc.assert(
      fc.property(
        services,
        strategies,
        strategies,
        broken,
        fc.nat(100),
        (options, strategy, repair, behavior, rounds) => {
          const model = create(options, behavior);
          model.start(1, 2, strategy);
          model.runUntilStill(rounds);
          const current = stateOf(model) === "completed" ? 2 : 1;
          model.start(current, 3, repair, { supersedes: true });
          expect(model.runUntilStill(ROUNDS_MAX)).toBe(true);
          expect(stateOf(model)).toBe("completed");
          expect(revisionsOf(model)).toEqual(options.replicas > 0 ? [3] : []);
          expect(model.violations).toEqual([]);
        },
      ),
      runs,
    );
  });
});

describe("a rollout during faults", () => {
  test("the budget holds, a rollout ends or pauses, and it completes once the faults are over", () => {
    fc.assert(
      fc.property(services, strategies, fc.nat(), (options, strategy, seed) => {
        const model = create(options, ready);
        const random = seededRandom(seed);
        const choose = <T>(list: readonly T[]): T | undefined =>
          list[Math.floor(random() * list.length)];
        model.start(1, 2, { ...strategy, onFailure: "pause" });
        for (let round = 0; round < 200; round++) {
          model.advance(500 + Math.floor(random() * 2_000));
          const host = choose(model.hosts);
          const set = choose(model.sets);
          const event = random();
          if (event < 0.03 && host && model.hosts.filter(({ isReady }) => isReady).length > 1)
            model.loseHost(host);
          else if (event < 0.1 && host) model.returnHost(host);
          else if (event < 0.15 && set) model.crash(set);
          else if (event < 0.18) model.scale(Math.floor(random() * 12));
          else if (event < 0.2) model.promoteTo({ percent: 1 + Math.floor(random() * 100) });
          else if (event < 0.3) model.resume();
          model.round();
          expect(model.violations).toEqual([]);
        }
        for (const host of model.hosts) model.returnHost(host);
        for (let attempt = 0; attempt < 5; attempt++) {
          model.resume();
          model.promoteTo({ percent: 100 });
          expect(model.runUntilStill(ROUNDS_MAX)).toBe(true);
        }
        expect(stateOf(model)).toBe("completed");
        expect(model.violations).toEqual([]);
        expect(revisionsOf(model)).toEqual(model.desired > 0 ? [2] : []);
      }),
      runs,
    );
  });

  test("the budget holds whatever users do meanwhile, and a repairing rollout completes", () => {
    fc.assert(
      fc.property(services, strategies, broken, fc.nat(), (options, strategy, behavior, seed) => {
        const model = create(options, behavior);
        const random = seededRandom(seed);
        model.start(1, 2, strategy);
        for (let round = 0; round < 200; round++) {
          model.advance(500 + Math.floor(random() * 2_000));
          const set = model.replicas[Math.floor(random() * model.replicas.length)];
          const event = random();
          const to = random() < 0.5 ? 2 : 3;
          if (event < 0.03) model.start(1, to, strategy, { supersedes: true });
          else if (event < 0.06) model.rollBack();
          else if (event < 0.1) model.promoteTo({ percent: 1 + Math.floor(random() * 100) });
          else if (event < 0.13) model.promoteTo({ zones: ["zone_1"] });
          else if (event < 0.16) model.scale(Math.floor(random() * 12));
          else if (event < 0.2 && set) model.toggleStop(set);
          else if (event < 0.25) model.resume();
          model.round();
          expect(model.violations).toEqual([]);
        }
        model.start(1, 3, strategy, { supersedes: true });
        expect(model.runUntilStill(ROUNDS_MAX)).toBe(true);
        expect(model.plans.at(-1)?.next).toMatchObject({ state: "completed" });
        expect(revisionsOf(model)).toEqual(model.replicas.length > 0 ? [3] : []);
        expect(model.violations).toEqual([]);
      }),
      runs,
    );
  });

  test("a lost host neither pauses nor fails a rollout", () => {
    fc.assert(
      fc.property(services, strategies, fc.nat(40), fc.nat(4), (options, strategy, at, index) => {
        const model = create(options, ready);
        const host = model.hosts[index % model.hosts.length];
        model.start(1, 2, strategy);
        model.runUntilStill(at);
        if (host) model.loseHost(host);
        model.runUntilStill(200);
        expect(["running", "completed"]).toContain(stateOf(model));
        if (host) model.returnHost(host);
        model.runUntilStill(ROUNDS_MAX);
        expect(stateOf(model)).toBe("completed");
        expect(model.violations).toEqual([]);
      }),
      runs,
    );
  });
});

describe("a plan that was stored", () => {
  test("is followed by a round that chooses no set again", () => {
    fc.assert(
      fc.property(
        services,
        strategies,
        broken,
        fc.nat(80),
        (options, strategy, behavior, rounds) => {
          const model = create(options, behavior);
          model.start(1, 2, strategy);
          for (let count = 0; count < rounds; count++) {
            if (stateOf(model) !== "running") return;
            model.advance(1_000);
            const chosen = model.round()?.actions.map(({ setId }) => setId) ?? [];
            if (stateOf(model) !== "running") return;
            const again = model.round()?.actions ?? [];
            expect(again.filter(({ setId }) => chosen.includes(setId))).toEqual([]);
          }
        },
      ),
      runs,
    );
  });
});
