import type { HookRule } from "../../contracts/api/autoscaling.ts";
import { findRule, wantedReplicas } from "./decide-replicas.ts";

/** A delivered alert, with its times as milliseconds since 1970. */
export interface DeliveredAlert {
  key: string;
  status: "firing" | "resolved";
  /** Undefined: the run of this key that is under way, or a new one that begins now. */
  startedAtMs: number | undefined;
  endedAtMs: number | undefined;
  labels: Record<string, string>;
}

/** A run of an alert (its key and start) that is on record. */
export interface KnownRun {
  id: string;
  key: string;
  startedAtMs: number;
  state: "firing" | "resolved" | "released";
  /** When its end was delivered; undefined: it was not, be it that the run fires or that somebody released it by hand. */
  resolvedAtMs: number | undefined;
  baseReplicas: number;
}

/**
 * A delivery that says, so long after the end of a run was delivered, that the run fires is no late copy: the sender had lost
 * sight of the alert, ended it, and sees it again with the start that it always had. Copies on the way are seconds old.
 */
export const REFIRED_AFTER_MS = 120_000;

/** A run to put on record. `released`: its end came before its beginning, which will be a late duplicate. */
export interface NewRun {
  key: string;
  startedAtMs: number;
  state: "firing" | "resolved" | "released";
  labels: Record<string, string>;
  baseReplicas: number;
  wantedReplicas: number;
}

export interface FoldInput {
  rules: readonly HookRule[];
  /**
   * Of every delivered key: all runs that are held, the runs that the delivery names, and the newest run, which a start
   * that the sender left out must lie after.
   */
  known: readonly KnownRun[];
  /** What the service wanted before this delivery: the base of steps and factors. */
  baseReplicas: number;
  nowMs: number;
  /** No service may have more. */
  replicasMax: number;
  /** So many runs more may be put on record; a sender that invents keys for ever is stopped here. */
  newRunsMax: number;
}

export interface FoldOutcome {
  newRuns: NewRun[];
  /** Ids of known runs that are over now. */
  resolvedIds: string[];
  /** Ids of known runs that were over, and fire again. */
  reopenedIds: string[];
  /** Alerts that are held now or were until this delivery, and those that change nothing. */
  accepted: number;
  ignored: number;
}

interface Changes {
  /** New runs, with what they want. */
  wanted: Map<Run, number>;
  /** Released runs that are held again. */
  revived: number;
}

type Run = { id: string | undefined; labels: Record<string, string> } & Omit<KnownRun, "id">;

/**
 * What a delivery changes on record. Pure, and the whole of what an alert's life is:
 *
 * - A run is a key and a start. Once on record it is never put there again, so a delivery has one effect however often
 *   it comes.
 * - A run that is over fires again only when a delivery says so well after its end was delivered (REFIRED_AFTER_MS), with
 *   what it wanted at its beginning: the sender was blind in between. One that was released by hand never does.
 * - A key has one run at a time. Two that fire at once are one alert seen twice (two Prometheus servers see it begin at
 *   different moments, and an Alertmanager that hears of both moves the start): the later on record takes the base of
 *   the earlier, so that a step is not taken twice. An end that comes with its time ends every run that began before it.
 * - The end of a run that is not on record is noted, for its beginning may have been overtaken.
 */
export function foldAlerts(input: FoldInput, alerts: readonly DeliveredAlert[]): FoldOutcome {
  const runsByKey = new Map<string, Run[]>();
  for (const run of input.known) runsOf(runsByKey, run.key).push({ ...run, labels: {} });
  const changes: Changes = { wanted: new Map(), revived: 0 };
  let accepted = 0;
  for (const alert of alerts) {
    const runs = runsOf(runsByKey, alert.key);
    const isAccepted =
      alert.status === "firing"
        ? begin(input, runs, alert, changes)
        : end(input, runs, alert, changes);
    if (isAccepted) accepted++;
  }
  const knownStates = new Map(input.known.map((run) => [run.id, run.state]));
  const after = [...runsByKey.values()].flat();
  const changedTo = (state: Run["state"]) =>
    after.flatMap(({ id, state: now }) =>
      id !== undefined && now === state && knownStates.get(id) !== state ? id : [],
    );
  return {
    newRuns: [...changes.wanted].map(([run, wantedReplicas]) => ({
      key: run.key,
      startedAtMs: run.startedAtMs,
      state: run.state,
      labels: run.labels,
      baseReplicas: run.baseReplicas,
      wantedReplicas,
    })),
    resolvedIds: changedTo("resolved"),
    reopenedIds: changedTo("firing"),
    accepted,
    ignored: alerts.length - accepted,
  };
}

function begin(input: FoldInput, runs: Run[], alert: DeliveredAlert, changes: Changes): boolean {
  const underWay = oldest(runs.filter((run) => run.state === "firing"));
  const same =
    alert.startedAtMs === undefined
      ? underWay
      : runs.find((run) => run.startedAtMs === alert.startedAtMs);
  if (same) {
    if (hasRefired(same, input)) revive(input, same, changes);
    return same.state !== "released";
  }
  const startedAtMs =
    alert.startedAtMs ?? Math.max(input.nowMs, ...runs.map((run) => run.startedAtMs + 1));
  const baseReplicas = underWay?.baseReplicas ?? input.baseReplicas;
  return record(input, runs, changes, alert, { startedAtMs, baseReplicas, state: "firing" });
}

function hasRefired({ state, resolvedAtMs }: Run, { nowMs }: FoldInput): boolean {
  return (
    state !== "firing" && resolvedAtMs !== undefined && nowMs - resolvedAtMs >= REFIRED_AFTER_MS
  );
}

/** What is still held is revived whatever room there is: it has its own. */
function revive(input: FoldInput, run: Run, changes: Changes): void {
  if (run.state === "released") {
    if (!hasRoom(input, changes)) return;
    changes.revived++;
  }
  run.state = "firing";
}

function hasRoom({ newRunsMax }: FoldInput, { wanted, revived }: Changes): boolean {
  return wanted.size + revived < newRunsMax;
}

function end(input: FoldInput, runs: Run[], alert: DeliveredAlert, changes: Changes): boolean {
  const isOver = (run: Run) =>
    alert.startedAtMs === undefined ||
    run.startedAtMs === alert.startedAtMs ||
    (alert.endedAtMs !== undefined && run.startedAtMs <= alert.endedAtMs);
  const over = runs.filter((run) => run.state !== "released" && isOver(run));
  for (const run of over) {
    if (run.state === "firing") run.resolvedAtMs = input.nowMs;
    run.state = "resolved";
  }
  const isKnown = runs.some((run) => run.startedAtMs === alert.startedAtMs);
  if (!isKnown && alert.startedAtMs !== undefined) {
    record(input, runs, changes, alert, {
      startedAtMs: alert.startedAtMs,
      baseReplicas: input.baseReplicas,
      state: "released",
    });
  }
  return over.length > 0;
}

/** Puts a run on record when a rule is for it and there is room. */
function record(
  input: FoldInput,
  runs: Run[],
  changes: Changes,
  alert: DeliveredAlert,
  begun: Pick<Run, "startedAtMs" | "baseReplicas" | "state">,
): boolean {
  const rule = findRule(input.rules, alert.labels);
  if (!rule || !hasRoom(input, changes)) return false;
  const run: Run = {
    ...begun,
    id: undefined,
    key: alert.key,
    labels: alert.labels,
    resolvedAtMs: begun.state === "firing" ? undefined : input.nowMs,
  };
  runs.push(run);
  changes.wanted.set(run, wantedReplicas(rule.want, begun.baseReplicas, input.replicasMax));
  return true;
}

function oldest(runs: readonly Run[]): Run | undefined {
  return runs.toSorted((a, b) => a.startedAtMs - b.startedAtMs)[0];
}

function runsOf(runsByKey: Map<string, Run[]>, key: string): Run[] {
  const runs = runsByKey.get(key) ?? [];
  runsByKey.set(key, runs);
  return runs;
}
