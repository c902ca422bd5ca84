import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  type DeliveredAlert,
  foldAlerts,
  LATE_COPY_AGE_MS_MAX,
  type FoldInput,
  type FoldOutcome,
  type KnownEpisode,
} from "./fold-alerts.ts";

const stepRule = { match: { alertname: "CpuHigh" }, want: { step: 2 } };

const alert = (more: Partial<DeliveredAlert> = {}): DeliveredAlert => ({
  key: "k",
  status: "firing",
  startedAtMs: 1_000,
  endedAtMs: undefined,
  labels: { alertname: "CpuHigh" },
  name: undefined,
  hasUniqueKey: false,
  ...more,
});

/** Stores the episodes that deliveries are folded into, as the database does. */
class Ledger {
  episodes: (KnownEpisode & { baseReplicas: number; wantedReplicas: number })[] = [];
  baseReplicas = 3;
  nowMs = 50_000;

  deliver(alerts: readonly DeliveredAlert[], more: Partial<FoldInput> = {}): FoldOutcome {
    const outcome = foldAlerts(
      {
        rules: [stepRule],
        known: this.episodes,
        baseReplicas: this.baseReplicas,
        nowMs: this.nowMs,
        replicasMax: 20_000,
        newEpisodesMax: 100,
        unknownEndsMax: 100,
        ...more,
      },
      alerts,
    );
    for (const episode of this.episodes) {
      if (outcome.resolvedIds.includes(episode.id)) {
        episode.state = "resolved";
        episode.resolvedAtMs = this.nowMs;
      }
      if (outcome.reopenedIds.includes(episode.id)) {
        episode.state = "firing";
        episode.resolvedAtMs = undefined;
      }
    }
    for (const episode of outcome.newEpisodes) {
      const resolvedAtMs = episode.state === "firing" ? undefined : this.nowMs;
      this.episodes.push({ ...episode, resolvedAtMs, id: `r${this.episodes.length}` });
    }
    return outcome;
  }

  states(): string[] {
    return this.episodes
      .map((episode) => `${episode.key}@${episode.startedAtMs} ${episode.state}`)
      .toSorted();
  }
}

describe("foldAlerts", () => {
  it("inserts a new alert with its request once", () => {
    const ledger = new Ledger();
    expect(ledger.deliver([alert()])).toMatchObject({
      newEpisodes: [{ state: "firing", baseReplicas: 3, wantedReplicas: 5 }],
      accepted: 1,
      ignored: 0,
    });
    ledger.baseReplicas = 5;
    expect(ledger.deliver([alert()])).toEqual({
      newEpisodes: [],
      resolvedIds: [],
      reopenedIds: [],
      repeatedIds: ["r0"],
      accepted: 1,
      ignored: 0,
    });
  });

  it("ignores an alert that no rule matches", () => {
    const ledger = new Ledger();
    const outcome = ledger.deliver([alert({ labels: { alertname: "Other" } })]);
    expect(outcome).toEqual({
      newEpisodes: [],
      resolvedIds: [],
      reopenedIds: [],
      repeatedIds: [],
      accepted: 0,
      ignored: 1,
    });
  });

  it("reopens an episode that fires well after its end, and never one that fires right after it", () => {
    for (const state of ["resolved", "released"] as const) {
      const ledger = new Ledger();
      ledger.deliver([alert()]);
      ledger.deliver([alert({ status: "resolved" })]);
      for (const episode of ledger.episodes) episode.state = state;
      ledger.nowMs += LATE_COPY_AGE_MS_MAX - 1;
      ledger.baseReplicas = 9;
      expect(ledger.deliver([alert()])).toMatchObject({ newEpisodes: [], reopenedIds: [] });
      ledger.nowMs += 1;
      expect(ledger.deliver([alert()])).toMatchObject({
        newEpisodes: [],
        reopenedIds: ["r0"],
        accepted: 1,
      });
      expect(ledger.episodes).toMatchObject([
        { state: "firing", baseReplicas: 3, wantedReplicas: 5 },
      ]);
      expect(ledger.deliver([alert()])).toMatchObject({ newEpisodes: [], reopenedIds: [] });
      ledger.deliver([alert({ status: "resolved" })]);
      expect(ledger.states()).toEqual(["k@1000 resolved"]);
    }
  });

  it("never reopens an episode that a user released", () => {
    const ledger = new Ledger();
    ledger.deliver([alert()]);
    for (const episode of ledger.episodes) episode.state = "released";
    ledger.nowMs += 10 * LATE_COPY_AGE_MS_MAX;
    expect(ledger.deliver([alert()])).toMatchObject({ reopenedIds: [], ignored: 1 });
  });

  it("reopens no more released episodes than the service may hold", () => {
    const ledger = new Ledger();
    const many = [1, 2, 3].map((index) => alert({ key: `k${index}` }));
    ledger.deliver(many);
    ledger.deliver(many.map((one) => ({ ...one, status: "resolved" as const })));
    for (const episode of ledger.episodes) episode.state = "released";
    ledger.nowMs += LATE_COPY_AGE_MS_MAX;
    expect(ledger.deliver(many, { newEpisodesMax: 2 })).toMatchObject({ accepted: 2, ignored: 1 });
  });

  it("does not reopen an episode that ended", () => {
    const ledger = new Ledger();
    ledger.deliver([alert()]);
    ledger.deliver([alert({ status: "resolved" })]);
    expect(ledger.deliver([alert()])).toMatchObject({ newEpisodes: [], resolvedIds: [] });
    expect(ledger.states()).toEqual(["k@1000 resolved"]);
  });

  it("does not begin an episode if its `resolved` arrived first", () => {
    const ledger = new Ledger();
    expect(ledger.deliver([alert({ status: "resolved" })])).toMatchObject({ ignored: 1 });
    expect(ledger.deliver([alert()])).toMatchObject({ newEpisodes: [], ignored: 1 });
    expect(ledger.states()).toEqual(["k@1000 released"]);
  });

  it("inserts a new episode of an alert that ended, with the same rule and identity", () => {
    const ledger = new Ledger();
    const first = ledger.deliver([alert(), alert({ status: "resolved" })]);
    const second = ledger.deliver([alert({ startedAtMs: 2_000 })]);
    expect(second.newEpisodes).toMatchObject([{ state: "firing", wantedReplicas: 5 }]);
    expect(second.newEpisodes[0]?.identity).toBe(first.newEpisodes[0]?.identity);
    expect(second.newEpisodes[0]?.rule).toBe(first.newEpisodes[0]?.rule);
  });

  it("gives an alert whose labels change with its value one identity", () => {
    const ledger = new Ledger();
    const at = (value: string) => ({ key: value, labels: { alertname: "CpuHigh", value } });
    ledger.deliver([alert(at("91.5"))]);
    const { newEpisodes } = ledger.deliver([
      alert({ ...at("91.5"), status: "resolved" }),
      alert({ ...at("97"), startedAtMs: 2_000 }),
    ]);
    expect(new Set(newEpisodes.map((episode) => episode.identity))).toEqual(
      new Set(['[["alertname","CpuHigh"]]']),
    );
  });

  it("treats a unique key as one episode, in whatever order its deliveries arrive", () => {
    const event = (status: "firing" | "resolved") =>
      alert({ status, startedAtMs: undefined, hasUniqueKey: true });
    const ledger = new Ledger();
    ledger.deliver([event("firing")]);
    ledger.deliver([event("resolved")]);
    ledger.deliver([event("firing")]);
    expect(ledger.states()).toEqual(["k@50000 resolved"]);
    const late = new Ledger();
    late.deliver([event("resolved")]);
    late.deliver([event("firing")]);
    expect(late.states()).toEqual(["k@50000 released"]);
  });

  it("stores a bounded number of unknown `resolved` alerts, which do not count as demands", () => {
    const ledger = new Ledger();
    const ends = [1, 2, 3].map((index) => alert({ key: `e${index}`, status: "resolved" }));
    const limits = { unknownEndsMax: 2, newEpisodesMax: 1 };
    const outcome = ledger.deliver([...ends, alert()], limits);
    expect(outcome).toMatchObject({ accepted: 1, ignored: 3 });
    expect(ledger.states()).toEqual(["e1@1000 released", "e2@1000 released", "k@1000 firing"]);
  });

  it("does not end a later episode when the end of an earlier one arrives late", () => {
    const ledger = new Ledger();
    ledger.deliver([alert()]);
    ledger.deliver([alert({ startedAtMs: 9_000 })]);
    ledger.deliver([alert({ status: "resolved", endedAtMs: 8_000 })]);
    expect(ledger.states()).toEqual(["k@1000 resolved", "k@9000 firing"]);
  });

  it("ends all episodes of an alert whose start moves back", () => {
    // Two Prometheus servers see it begin at 2000 and 1000; Alertmanager receives the later start
    // first.
    const ledger = new Ledger();
    ledger.deliver([alert({ startedAtMs: 2_000 })]);
    ledger.deliver([alert({ startedAtMs: 1_000 })]);
    expect(ledger.episodes.map((episode) => episode.wantedReplicas)).toEqual([5, 5]);
    ledger.deliver([alert({ status: "resolved", startedAtMs: 1_000, endedAtMs: 7_000 })]);
    expect(ledger.states()).toEqual(["k@1000 resolved", "k@2000 resolved"]);
  });

  it("chooses a start if the sender omits it", () => {
    const ledger = new Ledger();
    const unnamed = alert({ startedAtMs: undefined });
    expect(ledger.deliver([{ ...unnamed, status: "resolved" }])).toMatchObject({ ignored: 1 });
    ledger.deliver([unnamed]);
    ledger.deliver([unnamed]);
    expect(ledger.states()).toEqual(["k@50000 firing"]);
    ledger.deliver([{ ...unnamed, status: "resolved" }]);
    ledger.deliver([unnamed]); // at the same millisecond
    expect(ledger.states()).toEqual(["k@50000 resolved", "k@50001 firing"]);
  });

  it("inserts no more episodes than the service may hold", () => {
    const ledger = new Ledger();
    const many = [1, 2, 3].map((index) => alert({ key: `k${index}` }));
    expect(ledger.deliver(many, { newEpisodesMax: 2 })).toMatchObject({ accepted: 2, ignored: 1 });
    expect(ledger.episodes).toHaveLength(2);
  });

  const anyAlert = fc.record<DeliveredAlert>({
    key: fc.constantFrom("a", "b", "__proto__"),
    status: fc.constantFrom("firing", "resolved"),
    startedAtMs: fc.constantFrom(1_000, 2_000, 3_000),
    endedAtMs: fc.constant(undefined),
    labels: fc.constantFrom({ alertname: "CpuHigh" }),
    name: fc.constant(undefined),
    hasUniqueKey: fc.constant(false),
  });

  it("leaves the same alerts firing for any order, repetition and grouping of deliveries", () => {
    fc.assert(
      fc.property(
        fc.array(anyAlert, { maxLength: 12 }),
        fc.array(fc.nat(), { maxLength: 40 }),
        fc.integer({ min: 1, max: 4 }),
        (alerts, picks, groupSize) => {
          const delivered = [
            ...picks.flatMap((pick) => alerts[pick % (alerts.length || 1)] ?? []),
            ...alerts,
          ];
          const ledger = new Ledger();
          for (let at = 0; at < delivered.length; at += groupSize) {
            ledger.deliver(delivered.slice(at, at + groupSize));
          }
          const named = (status: string) =>
            new Set(
              alerts
                .filter((one) => one.status === status)
                .map((one) => `${one.key}@${one.startedAtMs} firing`),
            );
          const over = named("resolved");
          const firing = [...named("firing")].filter((one) => !over.has(one));
          expect(ledger.states().filter((state) => state.endsWith("firing"))).toEqual(
            firing.toSorted(),
          );
        },
      ),
    );
  });

  it("leaves each episode in the state of its last delivery if deliveries are far apart, with or without copies", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(anyAlert, fc.nat(3)), { maxLength: 12 }),
        fc.integer({ min: 0, max: LATE_COPY_AGE_MS_MAX - 1 }),
        (deliveries, lateMs) => {
          const ledger = new Ledger();
          const last = new Map<string, string>();
          for (const [one, copies] of deliveries) {
            ledger.nowMs += LATE_COPY_AGE_MS_MAX;
            ledger.deliver([one]);
            ledger.nowMs += lateMs;
            for (let copy = 0; copy < copies; copy++) ledger.deliver([one]);
            last.set(`${one.key}@${one.startedAtMs}`, one.status);
          }
          const isFiring = (state: string) => state.endsWith("firing");
          const expected = [...last].map(([name, status]) => `${name} ${status}`);
          expect(ledger.states().filter(isFiring)).toEqual(expected.filter(isFiring).toSorted());
        },
      ),
    );
  });

  it("does not treat a late copy of a `firing` as a new episode while copies may be in flight", () => {
    fc.assert(
      fc.property(
        fc.array(anyAlert, { maxLength: 8 }),
        fc.integer({ min: 0, max: LATE_COPY_AGE_MS_MAX - 1 }),
        (alerts, lateMs) => {
          const ledger = new Ledger();
          ledger.deliver(alerts);
          ledger.deliver(alerts.map((one) => ({ ...one, status: "resolved" as const })));
          const states = ledger.states();
          ledger.nowMs += lateMs;
          ledger.deliver(alerts.map((one) => ({ ...one, status: "firing" as const })));
          expect(ledger.states()).toEqual(states);
        },
      ),
    );
  });

  it("changes nothing when a delivery arrives a second time, and answers the same", () => {
    fc.assert(
      fc.property(fc.array(anyAlert, { maxLength: 8 }), fc.array(anyAlert), (before, alerts) => {
        const ledger = new Ledger();
        ledger.deliver(before);
        ledger.deliver(alerts);
        const settled = ledger.deliver(alerts);
        const states = ledger.states();
        expect(settled).toMatchObject({ newEpisodes: [], resolvedIds: [] });
        expect(ledger.deliver(alerts)).toEqual(settled);
        expect(ledger.states()).toEqual(states);
      }),
    );
  });
});
