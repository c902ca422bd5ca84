import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { HookRule } from "../../contracts/api/autoscaling.ts";
import { decideReplicas, type HeldRule } from "./decide-replicas.ts";
import {
  type DeliveredAlert,
  foldAlerts,
  type KnownEpisode,
  type NewEpisode,
} from "./fold-alerts.ts";

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

type HeldEpisode = KnownEpisode & NewEpisode & { releaseAtMs: number | undefined };

class Loop {
  nowMs = 1_000_000;
  replicas = 3;
  current = 3;
  scaledOutAtMs: number | null = null;
  scaledInAtMs: number | null = null;
  episodes: HeldEpisode[] = [];

  deliver(alerts: readonly DeliveredAlert[]): void {
    const outcome = foldAlerts(
      {
        rules,
        known: this.episodes,
        baseReplicas: 0,
        nowMs: this.nowMs,
        replicasMax,
        newEpisodesMax: 100,
        unknownEndsMax: 100,
      },
      alerts,
    );
    for (const episode of this.episodes) {
      if (outcome.resolvedIds.includes(episode.id)) this.resolve(episode);
      if (outcome.reopenedIds.includes(episode.id)) {
        Object.assign(episode, {
          state: "firing",
          resolvedAtMs: undefined,
          releaseAtMs: undefined,
        });
      }
    }
    for (const episode of outcome.newEpisodes) {
      const stored = { ...episode, id: `r${this.episodes.length}` };
      const held: HeldEpisode = { ...stored, resolvedAtMs: undefined, releaseAtMs: undefined };
      if (episode.state !== "firing") this.resolve(held, episode.state);
      this.episodes.push(held);
    }
  }

  private resolve(episode: HeldEpisode, state: "resolved" | "released" = "resolved"): void {
    episode.state = state;
    episode.resolvedAtMs = this.nowMs;
    episode.releaseAtMs = this.nowMs + HOLD_MS;
  }

  held(): HeldRule[] {
    for (const episode of this.episodes) {
      if (episode.state === "resolved" && (episode.releaseAtMs ?? 0) <= this.nowMs)
        episode.state = "released";
    }
    const live = this.episodes.filter((episode) => episode.state !== "released");
    return [...new Set(live.map((episode) => episode.rule))].flatMap((id) => {
      const same = live.filter((episode) => episode.rule === id);
      const [first] = same;
      if (!first) return [];
      return {
        id,
        hook: "web",
        want: first.want,
        alerts: new Set(same.map((episode) => episode.identity)).size,
        isFiring: same.some((episode) => episode.state === "firing"),
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
      isScaleInImmediate: false,
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
    hasUniqueKey: false,
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

  it("does not grow when alerts flap within their stabilization window", () => {
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
