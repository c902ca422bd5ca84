import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Want } from "../../contracts/api/autoscaling.ts";
import {
  type DecisionInput,
  decideReplicas,
  DEMANDS_NAMED_MAX,
  findRule,
  type HeldDemand,
  nameAlert,
  wantedReplicas,
} from "./decide-replicas.ts";

/** As in contracts/api/services.ts. */
const replicasMax = 20_000;
const wanted = (want: Want, base: number) => wantedReplicas(want, base, replicasMax);

const demand = (more: Partial<HeldDemand> = {}): HeldDemand => ({
  id: "dmd_1",
  hook: "web-alerts",
  key: "9f2a61c7d0b1e4aa",
  labels: { alertname: "CpuHigh" },
  state: "firing",
  wantedReplicas: 10,
  startedAt: "2026-01-05T12:00:03.250Z",
  releaseAt: null,
  ...more,
});

const decide = (more: Partial<DecisionInput>) => {
  const demands = more.demands ?? [];
  return decideReplicas({
    replicas: 3,
    bounds: { min: 2, max: 8 },
    demands,
    demandsTotal: demands.length,
    ...more,
  });
};

describe("decideReplicas", () => {
  it("says which alert wants what, since when, and what bounds it", () => {
    expect(decide({ demands: [demand()] })).toEqual({
      desired: 8,
      because: [
        "alert CpuHigh (9f2a61c7…) on hook web-alerts wants 10 since 2026-01-05T12:00:03Z",
        "replicas is set to 3",
        "autoscale.max is 8",
      ],
    });
  });

  it("says until when an alert that is over is held", () => {
    const over = demand({ state: "resolved", releaseAt: "2026-01-05T12:10:00.000Z" });
    expect(decide({ demands: [over], bounds: { min: 0, max: 20 } })).toEqual({
      desired: 10,
      because: [
        "alert CpuHigh (9f2a61c7…) on hook web-alerts is over, its 10 are held until 2026-01-05T12:10:00Z",
        "replicas is set to 3",
      ],
    });
  });

  it("keeps what people want when no alert wants more", () => {
    expect(decide({ demands: [demand({ wantedReplicas: 2 })] }).desired).toBe(3);
    expect(decide({}).because).toEqual(["replicas is set to 3"]);
  });

  it("holds the lower bound", () => {
    expect(decide({ replicas: 1 })).toEqual({
      desired: 2,
      because: ["replicas is set to 1", "autoscale.min is 2"],
    });
  });

  it("does not count alerts when autoscaling is off, and says so", () => {
    expect(decide({ bounds: null, demands: [demand()] })).toEqual({
      desired: 3,
      because: ["replicas is set to 3", "autoscale is off: 1 alert is not counted"],
    });
    expect(decide({ bounds: null }).because).toEqual(["replicas is set to 3"]);
  });

  it("names a bounded number of alerts and counts the others", () => {
    const demands = Array.from({ length: 9 }, (_, index) =>
      demand({ id: `dmd_${index}`, wantedReplicas: index, key: `k${index}` }),
    );
    const { because } = decide({ demands, demandsTotal: 400 });
    expect(because).toHaveLength(DEMANDS_NAMED_MAX + 2);
    expect(because[0]).toContain("k8");
    expect(because[DEMANDS_NAMED_MAX]).toBe("395 alerts are held besides, for no more");
  });

  it("names the older of alerts that want the same first, and of those as old by their ids", () => {
    const later = demand({ id: "dmd_0", key: "later", startedAt: "2026-01-05T12:00:04.000Z" });
    const [a, b] = [demand({ id: "dmd_a", key: "a" }), demand({ id: "dmd_b", key: "b" })];
    for (const demands of [
      [later, b, a],
      [a, b, later],
      [b, later, a],
    ]) {
      const keys = decide({ demands }).because.map((text) => /\((\w+)\)/.exec(text)?.[1]);
      expect(keys.slice(0, 3)).toEqual(["a", "b", "later"]);
    }
  });

  const replicas = fc.integer({ min: 0, max: replicasMax });
  const anyDemand = fc.record<HeldDemand>({
    id: fc.uuid(),
    hook: fc.constantFrom("web", "cpu"),
    key: fc.string(),
    labels: fc.dictionary(fc.string(), fc.string()),
    state: fc.constantFrom("firing", "resolved"),
    wantedReplicas: replicas,
    startedAt: fc.constantFrom("2026-01-05T12:00:03.250Z", "2026-01-05T12:00:04.250Z"),
    releaseAt: fc.constantFrom(null, "2026-01-05T12:10:00.000Z"),
  });
  const anyBounds = fc
    .tuple(replicas, replicas)
    .map(([a, b]) => ({ min: Math.min(a, b), max: Math.max(a, b) }));
  const demands = fc.uniqueArray(anyDemand, { selector: (one) => one.id, maxLength: 12 });

  it("is the largest of all wants, clamped to the bounds", () => {
    fc.assert(
      fc.property(replicas, anyBounds, demands, (people, bounds, held) => {
        const { desired, because } = decide({ replicas: people, bounds, demands: held });
        const largest = Math.max(people, ...held.map((one) => one.wantedReplicas));
        expect(desired).toBe(Math.min(Math.max(largest, bounds.min), bounds.max));
        expect(because.length).toBeGreaterThan(0);
        expect(because.length).toBeLessThanOrEqual(DEMANDS_NAMED_MAX + 4);
      }),
    );
  });

  it("does not depend on the order of the demands", () => {
    fc.assert(
      fc.property(demands, anyBounds, fc.infiniteStream(fc.nat()), (held, bounds, order) => {
        const shuffled = held
          .map((one) => ({ one, at: order.next().value }))
          .toSorted((a, b) => a.at - b.at)
          .map(({ one }) => one);
        expect(decide({ demands: shuffled, bounds })).toEqual(decide({ demands: held, bounds }));
      }),
    );
  });

  it("never grows when a demand goes", () => {
    fc.assert(
      fc.property(demands, anyBounds, fc.nat(), (held, bounds, index) => {
        const fewer = held.toSpliced(index % (held.length + 1), 1);
        const { desired } = decide({ demands: fewer, bounds });
        expect(desired).toBeLessThanOrEqual(decide({ demands: held, bounds }).desired);
      }),
    );
  });
});

describe("wantedReplicas", () => {
  it("takes absolute counts as they are, and steps over the base", () => {
    expect(wanted({ replicas: 7 }, 3)).toBe(7);
    expect(wanted({ replicas: 0 }, 3)).toBe(0);
    expect(wanted({ step: 2 }, 3)).toBe(5);
  });

  it("rounds factors up, but not for the sake of binary fractions", () => {
    expect(wanted({ factor: 1.5 }, 3)).toBe(5);
    expect(wanted({ factor: 1.1 }, 10)).toBe(11);
    expect(wanted({ factor: 2 }, 0)).toBe(0);
  });

  it("never wants less than the base, nor more than a service may have, for steps and factors", () => {
    const base = fc.integer({ min: 0, max: replicasMax });
    const factor = fc.double({ min: 1, max: 100, noNaN: true });
    const step = fc.integer({ min: 1, max: replicasMax });
    fc.assert(
      fc.property(base, factor, step, (count, by, steps) => {
        for (const sets of [wanted({ factor: by }, count), wanted({ step: steps }, count)]) {
          expect(Number.isInteger(sets)).toBe(true);
          expect(sets).toBeGreaterThanOrEqual(count);
          expect(sets).toBeLessThanOrEqual(replicasMax);
        }
      }),
    );
  });
});

describe("findRule", () => {
  const rules = [
    { match: { alertname: "CpuHigh", severity: "page" }, want: { replicas: 9 } },
    { match: { alertname: "CpuHigh" }, want: { step: 1 } },
  ];

  it("gives the first rule whose labels are all there", () => {
    expect(findRule(rules, { alertname: "CpuHigh", severity: "page", x: "y" })).toBe(rules[0]);
    expect(findRule(rules, { alertname: "CpuHigh", severity: "info" })).toBe(rules[1]);
    expect(findRule(rules, { alertname: "DiskFull" })).toBeUndefined();
  });

  it("takes every alert when a rule names no label", () => {
    expect(findRule([{ match: {}, want: { step: 1 } }], {})).toBeDefined();
  });

  it("does not find labels that an object has by itself", () => {
    expect(findRule([{ match: { constructor: "x" }, want: { step: 1 } }], {})).toBeUndefined();
    expect(nameAlert({ key: "k", labels: {} })).toBe("alert k");
  });

  it("cuts no character of an alert's name in half, which no database would store", () => {
    expect(nameAlert({ key: "cpu-of-😀-menu-web", labels: {} })).toBe("alert cpu-of-…");
    const alertname = `${"x".repeat(79)}😀`;
    expect(nameAlert({ key: "k", labels: { alertname } })).toBe(`alert ${"x".repeat(79)} (k)`);
  });
});
