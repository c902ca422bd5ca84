import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  type DeliveredAlert,
  foldAlerts,
  REFIRED_AFTER_MS,
  type FoldInput,
  type FoldOutcome,
  type KnownRun,
} from "./fold-alerts.ts";

const stepRule = { match: { alertname: "CpuHigh" }, want: { step: 2 } };

const alert = (more: Partial<DeliveredAlert> = {}): DeliveredAlert => ({
  key: "k",
  status: "firing",
  startedAtMs: 1_000,
  endedAtMs: undefined,
  labels: { alertname: "CpuHigh" },
  ...more,
});

/** A record of runs that deliveries are folded into, as the database keeps it. */
class Ledger {
  runs: (KnownRun & { wantedReplicas: number })[] = [];
  baseReplicas = 3;
  nowMs = 50_000;

  deliver(alerts: readonly DeliveredAlert[], more: Partial<FoldInput> = {}): FoldOutcome {
    const outcome = foldAlerts(
      {
        rules: [stepRule],
        known: this.runs,
        baseReplicas: this.baseReplicas,
        nowMs: this.nowMs,
        replicasMax: 20_000,
        newRunsMax: 100,
        ...more,
      },
      alerts,
    );
    for (const run of this.runs) {
      if (outcome.resolvedIds.includes(run.id)) {
        run.state = "resolved";
        run.resolvedAtMs = this.nowMs;
      }
      if (outcome.reopenedIds.includes(run.id)) {
        run.state = "firing";
        run.resolvedAtMs = undefined;
      }
    }
    for (const run of outcome.newRuns) {
      const resolvedAtMs = run.state === "firing" ? undefined : this.nowMs;
      this.runs.push({ ...run, resolvedAtMs, id: `r${this.runs.length}` });
    }
    return outcome;
  }

  states(): string[] {
    return this.runs.map((run) => `${run.key}@${run.startedAtMs} ${run.state}`).toSorted();
  }
}

describe("foldAlerts", () => {
  it("puts a new alert on record with what it wants, and again nothing", () => {
    const ledger = new Ledger();
    expect(ledger.deliver([alert()])).toMatchObject({
      newRuns: [{ state: "firing", baseReplicas: 3, wantedReplicas: 5 }],
      accepted: 1,
      ignored: 0,
    });
    ledger.baseReplicas = 5;
    expect(ledger.deliver([alert()])).toEqual({
      newRuns: [],
      resolvedIds: [],
      reopenedIds: [],
      accepted: 1,
      ignored: 0,
    });
  });

  it("ignores what no rule is for", () => {
    const ledger = new Ledger();
    const outcome = ledger.deliver([alert({ labels: { alertname: "Other" } })]);
    expect(outcome).toEqual({
      newRuns: [],
      resolvedIds: [],
      reopenedIds: [],
      accepted: 0,
      ignored: 1,
    });
  });

  it("begins a run again that fires well after its end, with what it wanted, and at once after it never", () => {
    for (const state of ["resolved", "released"] as const) {
      const ledger = new Ledger();
      ledger.deliver([alert()]);
      ledger.deliver([alert({ status: "resolved" })]);
      for (const run of ledger.runs) run.state = state;
      ledger.nowMs += REFIRED_AFTER_MS - 1;
      ledger.baseReplicas = 9;
      expect(ledger.deliver([alert()])).toMatchObject({ newRuns: [], reopenedIds: [] });
      ledger.nowMs += 1;
      expect(ledger.deliver([alert()])).toMatchObject({
        newRuns: [],
        reopenedIds: ["r0"],
        accepted: 1,
      });
      expect(ledger.runs).toMatchObject([{ state: "firing", baseReplicas: 3, wantedReplicas: 5 }]);
      expect(ledger.deliver([alert()])).toMatchObject({ newRuns: [], reopenedIds: [] });
      ledger.deliver([alert({ status: "resolved" })]);
      expect(ledger.states()).toEqual(["k@1000 resolved"]);
    }
  });

  it("never begins a run again that somebody released by hand", () => {
    const ledger = new Ledger();
    ledger.deliver([alert()]);
    for (const run of ledger.runs) run.state = "released";
    ledger.nowMs += 10 * REFIRED_AFTER_MS;
    expect(ledger.deliver([alert()])).toMatchObject({ reopenedIds: [], ignored: 1 });
  });

  it("revives no more released runs than there is room for", () => {
    const ledger = new Ledger();
    const many = [1, 2, 3].map((index) => alert({ key: `k${index}` }));
    ledger.deliver(many);
    ledger.deliver(many.map((one) => ({ ...one, status: "resolved" as const })));
    for (const run of ledger.runs) run.state = "released";
    ledger.nowMs += REFIRED_AFTER_MS;
    expect(ledger.deliver(many, { newRunsMax: 2 })).toMatchObject({ accepted: 2, ignored: 1 });
  });

  it("does not begin a run again that is over", () => {
    const ledger = new Ledger();
    ledger.deliver([alert()]);
    ledger.deliver([alert({ status: "resolved" })]);
    expect(ledger.deliver([alert()])).toMatchObject({ newRuns: [], resolvedIds: [] });
    expect(ledger.states()).toEqual(["k@1000 resolved"]);
  });

  it("does not begin a run whose end came first", () => {
    const ledger = new Ledger();
    expect(ledger.deliver([alert({ status: "resolved" })])).toMatchObject({ ignored: 1 });
    expect(ledger.deliver([alert()])).toMatchObject({ newRuns: [], ignored: 1 });
    expect(ledger.states()).toEqual(["k@1000 released"]);
  });

  it("begins a new run of an alert that was over, from what the service has by then", () => {
    const ledger = new Ledger();
    ledger.deliver([alert(), alert({ status: "resolved" })]);
    ledger.baseReplicas = 5;
    ledger.deliver([alert({ startedAtMs: 2_000 })]);
    expect(ledger.runs.at(-1)).toMatchObject({ state: "firing", wantedReplicas: 7 });
  });

  it("does not end a later run when the end of an earlier one comes late", () => {
    const ledger = new Ledger();
    ledger.deliver([alert()]);
    ledger.deliver([alert({ startedAtMs: 9_000 })]);
    ledger.deliver([alert({ status: "resolved", endedAtMs: 8_000 })]);
    expect(ledger.states()).toEqual(["k@1000 resolved", "k@9000 firing"]);
  });

  it("takes one step for an alert whose start is moved back, and ends it whole", () => {
    // Two Prometheus servers see it begin at 2000 and 1000; Alertmanager hears of the later start first.
    const ledger = new Ledger();
    ledger.deliver([alert({ startedAtMs: 2_000 })]);
    ledger.baseReplicas = 5;
    ledger.deliver([alert({ startedAtMs: 1_000 })]);
    expect(ledger.runs.map((run) => run.wantedReplicas)).toEqual([5, 5]);
    ledger.deliver([alert({ status: "resolved", startedAtMs: 1_000, endedAtMs: 7_000 })]);
    expect(ledger.states()).toEqual(["k@1000 resolved", "k@2000 resolved"]);
  });

  it("fills in a start that the sender left out", () => {
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

  it("stops at the number of runs that there is room for", () => {
    const ledger = new Ledger();
    const many = [1, 2, 3].map((index) => alert({ key: `k${index}` }));
    expect(ledger.deliver(many, { newRunsMax: 2 })).toMatchObject({ accepted: 2, ignored: 1 });
    expect(ledger.runs).toHaveLength(2);
  });

  const anyAlert = fc.record<DeliveredAlert>({
    key: fc.constantFrom("a", "b", "__proto__"),
    status: fc.constantFrom("firing", "resolved"),
    startedAtMs: fc.constantFrom(1_000, 2_000, 3_000),
    endedAtMs: fc.constant(undefined),
    labels: fc.constantFrom({ alertname: "CpuHigh" }),
  });

  it("ends up with the same alerts firing in whatever order, however often and in whatever groups they come", () => {
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

  it("leaves each run as the last delivery before it says, where deliveries are far apart, copies of them or not", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(anyAlert, fc.nat(3)), { maxLength: 12 }),
        fc.integer({ min: 0, max: REFIRED_AFTER_MS - 1 }),
        (deliveries, lateMs) => {
          const ledger = new Ledger();
          const last = new Map<string, string>();
          for (const [one, copies] of deliveries) {
            ledger.nowMs += REFIRED_AFTER_MS;
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

  it("takes no late copy of a beginning for another, however late within the time that copies take", () => {
    fc.assert(
      fc.property(
        fc.array(anyAlert, { maxLength: 8 }),
        fc.integer({ min: 0, max: REFIRED_AFTER_MS - 1 }),
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

  it("changes nothing when a delivery comes a second time, and answers the same", () => {
    fc.assert(
      fc.property(fc.array(anyAlert, { maxLength: 8 }), fc.array(anyAlert), (before, alerts) => {
        const ledger = new Ledger();
        ledger.deliver(before);
        ledger.deliver(alerts);
        const settled = ledger.deliver(alerts);
        const states = ledger.states();
        expect(settled).toMatchObject({ newRuns: [], resolvedIds: [] });
        expect(ledger.deliver(alerts)).toEqual(settled);
        expect(ledger.states()).toEqual(states);
      }),
    );
  });
});
