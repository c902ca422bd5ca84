import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { HookRule } from "../../contracts/api/autoscaling.ts";
import { decideReplicas, type HeldRule } from "./decide-replicas.ts";
import { type DeliveredAlert, foldAlerts, type KnownRun, type NewRun } from "./fold-alerts.ts";

/**
 * Deliveries, their fold and the decisions together, without a database: the whole loop in virtual
 * time.
 */
const rules: HookRule[] = [
  { match: { alertname: "Sale" }, want: { replicas: 8 } },
  { match: { alertname: "Cpu" }, want: { factor: 1.5 } },
  { match: { alertname: "Queue" }, want: { step: 2, stacks: true } },
];
const policy = { min: 2, max: 12, scaleIn: { step: 2, everySeconds: 30 } };
const HOLD_MS = 300_000;
const replicasMax = 20_000;

type HeldRun = KnownRun & NewRun & { releaseAtMs: number | undefined };

class Loop {
  nowMs = 1_000_000;
  replicas = 3;
  current = 3;
  scaledOutAtMs: number | null = null;
  scaledInAtMs: number | null = null;
  runs: HeldRun[] = [];

  deliver(alerts: readonly DeliveredAlert[]): void {
    const outcome = foldAlerts(
      {
        rules,
        known: this.runs,
        baseReplicas: 0,
        nowMs: this.nowMs,
        replicasMax,
        newRunsMax: 100,
        unknownEndsMax: 100,
      },
      alerts,
    );
    for (const run of this.runs) {
      if (outcome.resolvedIds.includes(run.id)) this.resolve(run);
      if (outcome.reopenedIds.includes(run.id)) {
        Object.assign(run, { state: "firing", resolvedAtMs: undefined, releaseAtMs: undefined });
      }
    }
    for (const run of outcome.newRuns) {
      const stored = { ...run, id: `r${this.runs.length}` };
      const held: HeldRun = { ...stored, resolvedAtMs: undefined, releaseAtMs: undefined };
      if (run.state !== "firing") this.resolve(held, run.state);
      this.runs.push(held);
    }
  }

  private resolve(run: HeldRun, state: "resolved" | "released" = "resolved"): void {
    run.state = state;
    run.resolvedAtMs = this.nowMs;
    run.releaseAtMs = this.nowMs + HOLD_MS;
  }

  held(): HeldRule[] {
    for (const run of this.runs) {
      if (run.state === "resolved" && (run.releaseAtMs ?? 0) <= this.nowMs) run.state = "released";
    }
    const live = this.runs.filter((run) => run.state !== "released");
    return [...new Set(live.map((run) => run.rule))].flatMap((id) => {
      const same = live.filter((run) => run.rule === id);
      const [first] = same;
      if (!first) return [];
      return {
        id,
        hook: "web",
        want: first.want,
        alerts: new Set(same.map((run) => run.identity)).size,
        isFiring: same.some((run) => run.state === "firing"),
        oldest: { key: first.key, labels: first.labels, startedAt: "2026-01-05T12:00:00.000Z" },
        releaseAt: null,
      };
    });
  }

  decide(): { from: number; to: number; target: number } {
    const { nowMs, scaledOutAtMs, scaledInAtMs } = this;
    const from = this.current;
    const { desired, target } = decideReplicas({
      replicas: this.replicas,
      policy,
      current: from,
      readySets: from,
      rules: this.held(),
      history: { nowMs, scaledOutAtMs, scaledInAtMs, stepsTaken: {} },
      isScaleInAtOnce: false,
      replicasMax,
    });
    if (desired > from) this.scaledOutAtMs = nowMs;
    if (desired < from) this.scaledInAtMs = nowMs;
    this.current = desired;
    return { from, to: desired, target };
  }
}

const alertname = fc.constantFrom("Sale", "Cpu", "Queue");
const anyAlert = fc
  .record({
    alertname,
    instance: fc.constantFrom("i1", "i2"),
    status: fc.constantFrom<("firing" | "resolved")[]>("firing", "resolved"),
    startedAtMs: fc.constantFrom(1_000, 2_000),
  })
  .map((one): DeliveredAlert => ({
    key: `${one.alertname}-${one.instance}`,
    status: one.status,
    startedAtMs: one.startedAtMs,
    endedAtMs: undefined,
    labels: { alertname: one.alertname, instance: one.instance },
    name: undefined,
    isKeyOfOneRun: false,
  }));

describe("the control loop", () => {
  it("never leaves the bounds, never scales in below the held demands, and takes scale-in steps of the policy's size and pace", () => {
    const move = fc.oneof(
      fc.array(anyAlert, { minLength: 1, maxLength: 3 }).map((alerts) => ({ alerts, passMs: 0 })),
      fc.constantFrom(1_000, 29_999, 30_000, HOLD_MS).map((passMs) => ({ alerts: [], passMs })),
    );
    fc.assert(
      fc.property(fc.array(move, { maxLength: 40 }), (moves) => {
        const loop = new Loop();
        let lastInMs = Number.NEGATIVE_INFINITY;
        for (const { alerts, passMs } of moves) {
          loop.nowMs += passMs;
          loop.deliver(alerts);
          const { from, to, target } = loop.decide();
          expect(to).toBeGreaterThanOrEqual(policy.min);
          expect(to).toBeLessThanOrEqual(policy.max);
          if (to >= from) continue;
          expect(to).toBeGreaterThanOrEqual(target);
          expect(from - to).toBeLessThanOrEqual(policy.scaleIn.step);
          expect(loop.nowMs - lastInMs).toBeGreaterThanOrEqual(policy.scaleIn.everySeconds * 1_000);
          lastInMs = loop.nowMs;
        }
      }),
    );
  });

  it("reaches one size for the same alerts in any order, grouping and repetition", () => {
    const firing = anyAlert.map((alert) => ({ ...alert, status: "firing" as const }));
    fc.assert(
      fc.property(
        fc.array(firing, { maxLength: 8 }),
        fc.array(fc.nat(), { maxLength: 20 }),
        fc.integer({ min: 1, max: 4 }),
        fc.boolean(),
        (alerts, picks, groupSize, decidesBetween) => {
          const together = new Loop();
          together.deliver(alerts);
          together.decide();
          const apart = new Loop();
          const repeated = picks.flatMap((pick) => alerts[pick % (alerts.length || 1)] ?? []);
          const all = [...repeated, ...alerts.toReversed()];
          for (let at = 0; at < all.length; at += groupSize) {
            apart.deliver(all.slice(at, at + groupSize));
            if (decidesBetween) apart.decide();
          }
          apart.decide();
          expect(apart.current).toBe(together.current);
        },
      ),
    );
  });

  it("does not grow when alerts flap within their stabilization time", () => {
    fc.assert(
      fc.property(
        fc.array(anyAlert, { minLength: 1, maxLength: 4 }),
        fc.integer({ min: 1, max: 10 }),
        fc.integer({ min: 1, max: HOLD_MS / 2 - 1 }),
        (alerts, flaps, passMs) => {
          const loop = new Loop();
          const deliver = (status: "firing" | "resolved", startedAtMs: number) => {
            loop.deliver(alerts.map((alert) => ({ ...alert, status, startedAtMs })));
            return loop.decide().to;
          };
          const size = deliver("firing", 0);
          for (let flap = 0; flap < flaps; flap++) {
            expect(deliver("resolved", flap * 1_000)).toBe(size);
            loop.nowMs += passMs;
            expect(deliver("firing", (flap + 1) * 1_000)).toBe(size);
            loop.nowMs += passMs;
          }
        },
      ),
    );
  });
});
