import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { ReplicaRequest } from "../../contracts/api/autoscaling.ts";
import {
  type DecisionInput,
  decideReplicas,
  DEMANDS_NAMED_MAX,
  type HeldRule,
} from "./decide-replicas.ts";

const nowMs: number = 1_000_000;
const replicasMax = 20_000;

const rule = (more: Partial<HeldRule> = {}): HeldRule => ({
  id: "r1",
  hook: "web-alerts",
  want: { replicas: 10 },
  alerts: 1,
  isFiring: true,
  oldest: {
    key: "9f2a61c7d0b1e4aa",
    labels: { alertname: "CpuHigh" },
    startedAt: "2026-01-05T12:00:03.250Z",
  },
  releaseAt: null,
  ...more,
});

const decide = (more: Partial<DecisionInput>) =>
  decideReplicas({
    replicas: 3,
    policy: { min: 2, max: 8 },
    current: 3,
    readySets: 3,
    rules: [],
    history: { nowMs, scaledOutAtMs: null, scaledInAtMs: null, stepsTaken: {} },
    isScaleInImmediate: false,
    replicasMax,
    ...more,
  });
const past = (more: Partial<DecisionInput["history"]>) => ({
  history: { nowMs, scaledOutAtMs: null, scaledInAtMs: null, stepsTaken: {}, ...more },
});

describe("the reasons of a decision", () => {
  it("name the alert, its request, its start, and the bound", () => {
    expect(decide({ rules: [rule()] })).toMatchObject({
      desired: 8,
      because: [
        "alert CpuHigh (9f2a61c7…) on hook web-alerts requests 10 since 2026-01-05T12:00:03Z",
        "replicas is set to 3",
        "autoscale.max is 8",
      ],
    });
    expect(decide({ replicas: 1, current: 2 }).because).toEqual([
      "replicas is set to 1",
      "autoscale.min is 2",
    ]);
  });

  it("say until when Berth holds a resolved demand, and how many alerts a rule holds", () => {
    const held = rule({ isFiring: false, releaseAt: "2026-01-05T12:10:00.000Z", alerts: 3 });
    expect(decide({ rules: [held], policy: { min: 0, max: 20 } }).because[0]).toBe(
      "alert CpuHigh (9f2a61c7…) and 2 more of its rule on hook web-alerts resolved; Berth holds 10 until 2026-01-05T12:10:00Z",
    );
  });

  it("name a bounded number of rules and count the alerts of the others", () => {
    const rules = Array.from({ length: 9 }, (_, index) =>
      rule({ id: `r${index}`, want: { replicas: index }, alerts: 2 }),
    );
    const { because } = decide({ rules });
    expect(because).toHaveLength(DEMANDS_NAMED_MAX + 2);
    expect(because[DEMANDS_NAMED_MAX]).toBe("8 more alerts do not raise the target");
  });

  it("say that autoscaling is off", () => {
    expect(decide({ policy: null, rules: [rule()] })).toMatchObject({
      desired: 3,
      because: ["replicas is set to 3", "autoscale is off: 1 alert is not counted"],
    });
  });
});

describe("the base", () => {
  const policy = { min: 1, max: 50 };
  it("is one for all rules, so that their steps and factors do not compound", () => {
    const rules = [
      rule({ id: "a", want: { step: 2 } }),
      rule({ id: "b", want: { factor: 2 }, alerts: 9 }),
      rule({ id: "c", want: { step: 1, stacks: true }, alerts: 2 }),
    ];
    expect(decide({ rules, policy })).toMatchObject({ base: 3, target: 6, desired: 6 });
  });

  it("includes absolute demands, and the replicas as users change them", () => {
    const step = rule({ id: "a", want: { step: 2 } });
    expect(decide({ rules: [step, rule()], policy })).toMatchObject({ base: 10, target: 12 });
    expect(decide({ rules: [step], policy, replicas: 6 })).toMatchObject({ base: 6, target: 8 });
  });
});

describe("scale-out", () => {
  const policy = { min: 1, max: 50, scaleOut: { cooldownSeconds: 60 } };
  const rules = [rule({ want: { step: 2, stacks: true }, alerts: 2 })];
  const input = { policy, rules, current: 5, readySets: 4 };

  it("waits until the sets of the last step are ready or the cooldown is over", () => {
    const waiting = decide({ ...input, ...past({ scaledOutAtMs: nowMs - 59_000 }) });
    expect(waiting).toMatchObject({ desired: 5, target: 7, recheckAfterMs: 1_000 });
    expect(waiting.because.at(-1)).toBe(
      "the step to 7 waits until 5 sets are ready or the cooldown ends",
    );
    for (const ready of [
      { ...input, readySets: 5, ...past({ scaledOutAtMs: nowMs - 1_000 }) },
      { ...input, ...past({ scaledOutAtMs: nowMs - 60_000 }) },
      { ...input, ...past({}) },
    ]) {
      expect(decide(ready)).toMatchObject({ desired: 7, recheckAfterMs: null });
    }
  });

  it("counts the ready sets less often the longer it waits, and once more when the cooldown is over", () => {
    const slow = { ...policy, scaleOut: { cooldownSeconds: 3_600 } };
    const recheckAfter = (waitedMs: number) =>
      decide({ ...input, policy: slow, ...past({ scaledOutAtMs: nowMs - waitedMs }) })
        .recheckAfterMs;
    expect([0, 4_000, 40_000, 3_000_000, 3_595_000].map(recheckAfter)).toEqual([
      2_000, 2_000, 10_000, 60_000, 5_000,
    ]);
  });

  it("does not wait for absolute demands and replicas", () => {
    const absolute = [...rules, rule({ id: "abs", want: { replicas: 20 } })];
    const history = past({ scaledOutAtMs: nowMs });
    expect(decide({ ...input, rules: absolute, ...history })).toMatchObject({ desired: 20 });
  });
});

describe("scale-in", () => {
  it("takes a tenth of the sets each minute unless the policy says otherwise", () => {
    const input = { policy: { min: 1, max: 500 }, current: 100 };
    expect(decide(input)).toMatchObject({ desired: 90, recheckAfterMs: 60_000 });
    expect(decide({ ...input, current: 5 })).toMatchObject({ desired: 4 });
    const early = past({ scaledInAtMs: nowMs - 20_000 });
    expect(decide({ ...input, ...early })).toMatchObject({ desired: 100, recheckAfterMs: 40_000 });
  });

  it("applies a lower maximum, and a user's own scale-in, immediately", () => {
    const input = { policy: { min: 1, max: 8 }, current: 100 };
    expect(decide({ ...input, ...past({ scaledInAtMs: nowMs }) }).desired).toBe(8);
    expect(decide({ ...input, isScaleInImmediate: true }).desired).toBe(3);
  });
});

describe("a rule with everySeconds", () => {
  const rules = [rule({ want: { step: 2, everySeconds: 100 } })];
  const policy = { min: 1, max: 8 };
  const taken = (steps: number, sinceMs: number | null) =>
    past({ stepsTaken: { r1: { steps, sinceMs } } });

  it("takes one step more each time it has fired for so long, up to the maximum", () => {
    const first = decide({ policy, rules });
    expect(first).toMatchObject({
      target: 5,
      recheckAfterMs: 100_000,
      stepsTaken: { r1: { steps: 1, sinceMs: nowMs } },
    });
    expect(decide({ policy, rules, ...taken(1, nowMs - 99_000) })).toMatchObject({ target: 5 });
    expect(decide({ policy, rules, ...taken(1, nowMs - 100_000) })).toMatchObject({ target: 7 });
    expect(decide({ policy, rules, ...taken(3, nowMs - 900_000) })).toMatchObject({
      target: 8,
      recheckAfterMs: null,
      stepsTaken: { r1: { steps: 3 } },
    });
  });

  it("keeps its steps while it is held and does not fire, and waits in full when it fires again", () => {
    const held = [rule({ want: { step: 2, everySeconds: 100 }, isFiring: false })];
    const resolved = decide({ policy, rules: held, ...taken(2, nowMs - 900_000) });
    expect(resolved).toMatchObject({ target: 7, stepsTaken: { r1: { steps: 2, sinceMs: null } } });
    const again = decide({ policy, rules, ...past({ stepsTaken: resolved.stepsTaken }) });
    expect(again).toMatchObject({ target: 7, stepsTaken: { r1: { steps: 2, sinceMs: nowMs } } });
  });
});

describe("every decision", () => {
  const count = fc.integer({ min: 0, max: replicasMax });
  const want = fc.oneof(
    count.map((replicas): ReplicaRequest => ({ replicas })),
    fc.double({ min: 1, max: 100, noNaN: true }).map((factor): ReplicaRequest => ({ factor })),
    fc
      .record(
        {
          step: fc.integer({ min: 1, max: replicasMax }),
          stacks: fc.boolean(),
          everySeconds: fc.integer({ min: 10, max: 1_000 }),
        },
        { requiredKeys: ["step"] },
      )
      .map((one): ReplicaRequest => one),
  );
  const anyRule = fc.record({
    id: fc.uuid(),
    want,
    alerts: fc.integer({ min: 1, max: 10_000 }),
    isFiring: fc.boolean(),
    releaseAt: fc.constantFrom(null, "2026-01-05T12:10:00.000Z"),
  });
  const ago = fc.option(fc.integer({ min: 0, max: 200_000 }).map((ms) => nowMs - ms));
  const policy = fc.tuple(count, count).chain(([a, b]) =>
    fc.record(
      {
        min: fc.constant(Math.min(a, b)),
        max: fc.constant(Math.max(a, b)),
        scaleIn: fc.record({ step: count.map((n) => n + 1), everySeconds: fc.nat(200) }),
        scaleOut: fc.record({ cooldownSeconds: fc.nat(200) }),
      },
      { requiredKeys: ["min", "max"] },
    ),
  );
  const anyInput = fc.record({
    replicas: count,
    policy,
    current: count,
    readySets: count,
    rules: fc
      .uniqueArray(anyRule, { selector: (one) => one.id, maxLength: 8 })
      .map((rules) => rules.map((one) => rule(one))),
    history: fc.record({
      nowMs: fc.constant(nowMs),
      scaledOutAtMs: ago,
      scaledInAtMs: ago,
      stepsTaken: fc.constant({}),
    }),
    isScaleInImmediate: fc.boolean(),
    replicasMax: fc.constant(replicasMax),
  });

  it("lies within the bounds, and says why", () => {
    fc.assert(
      fc.property(anyInput, (input) => {
        const { desired, target, base, because } = decideReplicas(input);
        for (const size of [desired, target, base]) {
          expect(size).toBeGreaterThanOrEqual(input.policy.min);
          expect(size).toBeLessThanOrEqual(input.policy.max);
        }
        expect(because.length).toBeGreaterThan(0);
        expect(because.length).toBeLessThanOrEqual(DEMANDS_NAMED_MAX + 5);
      }),
    );
  });

  it("moves towards the target and never past it: no scale-in goes below the held demands", () => {
    fc.assert(
      fc.property(anyInput, (input) => {
        const { desired, target } = decideReplicas(input);
        const start = Math.min(Math.max(input.current, input.policy.min), input.policy.max);
        expect(desired).toBeGreaterThanOrEqual(Math.min(start, target));
        expect(desired).toBeLessThanOrEqual(Math.max(start, target));
      }),
    );
  });

  it("reaches the target if it is repeated after each recheck time", () => {
    fc.assert(
      fc.property(anyInput, (input) => {
        const fixed = input.rules.map((one) => ({ ...one, want: { replicas: 5 } }));
        let { current } = input;
        let history: DecisionInput["history"] = input.history;
        for (let round = 0; round < 100_000; round++) {
          const { desired, target, recheckAfterMs } = decideReplicas({
            ...input,
            rules: fixed,
            isScaleInImmediate: false,
            current,
            history,
          });
          if (desired < current) history = { ...history, scaledInAtMs: history.nowMs };
          current = desired;
          if (current === target) return;
          expect(recheckAfterMs).not.toBeNull();
          history = { ...history, nowMs: history.nowMs + (recheckAfterMs ?? 0) };
        }
        expect.unreachable("the service never reached its target");
      }),
      { numRuns: 30 },
    );
  });

  it("does not depend on the order of the rules", () => {
    fc.assert(
      fc.property(anyInput, fc.infiniteStream(fc.nat()), (input, order) => {
        const shuffled = input.rules
          .map((one) => ({ one, at: order.next().value }))
          .toSorted((a, b) => a.at - b.at)
          .map(({ one }) => one);
        expect(decideReplicas({ ...input, rules: shuffled })).toEqual(decideReplicas(input));
      }),
    );
  });

  it("never has a larger target without one of its rules", () => {
    fc.assert(
      fc.property(anyInput, fc.nat(), (input, index) => {
        const rules = input.rules.toSpliced(index % (input.rules.length + 1), 1);
        const { target } = decideReplicas({ ...input, rules });
        expect(target).toBeLessThanOrEqual(decideReplicas(input).target);
      }),
    );
  });
});
