import type { HookRule, Want } from "../../contracts/api/autoscaling.ts";
import { alertIdentity, findRule, ruleKey } from "./find-rule.ts";
import { wantedReplicas } from "./wanted-replicas.ts";

/** A delivered alert, with its times as milliseconds since 1970. */
export interface DeliveredAlert {
  key: string;
  status: "firing" | "resolved";
  /** Undefined: the firing run of this key, or a new one that begins now. */
  startedAtMs: number | undefined;
  endedAtMs: number | undefined;
  labels: Record<string, string>;
  /** The sender's own name of the alert: see alertIdentity. */
  name: string | undefined;
  /** The key is that of one run only: a second `firing` is a repetition. */
  isKeyOfOneRun: boolean;
}

/** A run of an alert (its key and start) that the database holds. */
export interface KnownRun {
  id: string;
  key: string;
  startedAtMs: number;
  state: "firing" | "resolved" | "released";
  /**
   * The time at which its end arrived; undefined while it fires, and after a user released it.
   */
  resolvedAtMs: number | undefined;
}

/**
 * A `firing` this long after the end of the same run is not a late copy. The sender lost sight of
 * the alert, ended it, and sees it again with its original start. Copies in flight are seconds old.
 */
export const REFIRED_AFTER_MS = 120_000;

/**
 * A run to insert. `released`: its end arrived first, so that its beginning will be a late copy.
 */
export interface NewRun {
  key: string;
  startedAtMs: number;
  state: "firing" | "resolved" | "released";
  labels: Record<string, string>;
  /** The rule and the alert's identity within it: see find-rule.ts. */
  rule: string;
  identity: string;
  want: Want;
  holdMaxSeconds: number | undefined;
  baseReplicas: number;
  wantedReplicas: number;
}

export interface FoldInput {
  rules: readonly HookRule[];
  /** Of each delivered key: all held runs, the runs that the delivery names, and the newest run. */
  known: readonly KnownRun[];
  /** The size of the service without steps and factors. */
  baseReplicas: number;
  nowMs: number;
  /** No service has more. */
  replicasMax: number;
  /** The number of runs that the service may hold besides those that it holds now. */
  newRunsMax: number;
  /** The number of ends without a beginning that one delivery may store. */
  unknownEndsMax: number;
}

export interface FoldOutcome {
  newRuns: NewRun[];
  /** Ids of known runs that this delivery ends. */
  resolvedIds: string[];
  /** Ids of known runs that had ended and fire again. */
  reopenedIds: string[];
  /** Ids of known runs that fire, and that the delivery mentions. */
  repeatedIds: string[];
  /** Alerts that hold a demand now or did until this delivery, and alerts that change nothing. */
  accepted: number;
  ignored: number;
}

type Run = { id: string | undefined } & Omit<KnownRun, "id">;

interface Fold {
  input: FoldInput;
  newRuns: Map<Run, NewRun>;
  /** Released runs that the delivery revives; each takes capacity again. */
  revived: number;
  unknownEnds: number;
  repeated: Set<string>;
}

/**
 * Computes the changes that a delivery makes to the held runs. Pure; it contains the whole life of
 * an alert:
 *
 * - A run is a key and a start. The database stores it once, so a repeated delivery has one effect.
 * - An ended run fires again only when a delivery says so well after its end (REFIRED_AFTER_MS). A
 *   run that a user released never fires again.
 * - A key has one run at a time. An end that states its time ends every run that began before it,
 *   as two Prometheus servers see one alert begin at different moments.
 * - The end of an unknown run is stored, because its beginning may be on its way.
 * - A run ends only by its own `resolved`. Alerts that a delivery leaves out keep their state
 *   (I12).
 */
export function foldAlerts(input: FoldInput, alerts: readonly DeliveredAlert[]): FoldOutcome {
  const runsByKey = new Map<string, Run[]>();
  for (const run of input.known) runsOf(runsByKey, run.key).push({ ...run });
  const fold: Fold = {
    input,
    newRuns: new Map(),
    revived: 0,
    unknownEnds: 0,
    repeated: new Set(),
  };
  let accepted = 0;
  for (const alert of alerts) {
    const runs = runsOf(runsByKey, alert.key);
    if (alert.status === "firing" ? begin(fold, runs, alert) : end(fold, runs, alert)) accepted++;
  }
  const knownStates = new Map(input.known.map((run) => [run.id, run.state]));
  const after = [...runsByKey.values()].flat();
  const changedTo = (state: Run["state"]) =>
    after.flatMap(({ id, state: now }) =>
      id !== undefined && now === state && knownStates.get(id) !== state ? id : [],
    );
  return {
    newRuns: [...fold.newRuns].map(([run, stored]) => ({ ...stored, state: run.state })),
    resolvedIds: changedTo("resolved"),
    reopenedIds: changedTo("firing"),
    repeatedIds: [...fold.repeated],
    accepted,
    ignored: alerts.length - accepted,
  };
}

function begin(fold: Fold, runs: Run[], alert: DeliveredAlert): boolean {
  const same = findSameRun(runs, alert);
  if (same) {
    if (hasRefired(same, fold.input)) revive(fold, same);
    if (same.state === "firing" && same.id !== undefined) fold.repeated.add(same.id);
    return same.state !== "released";
  }
  const startedAtMs = alert.startedAtMs ?? nextStartMs(fold, runs);
  if (!hasCapacity(fold)) return false;
  return insert(fold, runs, alert, startedAtMs, "firing");
}

function findSameRun(runs: readonly Run[], alert: DeliveredAlert): Run | undefined {
  if (alert.startedAtMs !== undefined) {
    return runs.find((run) => run.startedAtMs === alert.startedAtMs);
  }
  return alert.isKeyOfOneRun ? runs[0] : oldest(runs.filter((run) => run.state === "firing"));
}

/** A start that the sender left out lies after those of all other runs of the key. */
function nextStartMs({ input }: Fold, runs: readonly Run[]): number {
  return Math.max(input.nowMs, ...runs.map((run) => run.startedAtMs + 1));
}

function hasRefired({ state, resolvedAtMs }: Run, { nowMs }: FoldInput): boolean {
  return (
    state !== "firing" && resolvedAtMs !== undefined && nowMs - resolvedAtMs >= REFIRED_AFTER_MS
  );
}

/** A run that Berth still holds needs no further capacity. */
function revive(fold: Fold, run: Run): void {
  if (run.state === "released") {
    if (!hasCapacity(fold)) return;
    fold.revived++;
  }
  run.state = "firing";
}

function hasCapacity({ input, newRuns, revived, unknownEnds }: Fold): boolean {
  return newRuns.size - unknownEnds + revived < input.newRunsMax;
}

function end(fold: Fold, runs: Run[], alert: DeliveredAlert): boolean {
  const isOver = (run: Run) =>
    alert.startedAtMs === undefined ||
    run.startedAtMs === alert.startedAtMs ||
    (alert.endedAtMs !== undefined && run.startedAtMs <= alert.endedAtMs);
  const over = runs.filter((run) => run.state !== "released" && isOver(run));
  for (const run of over) {
    if (run.state === "firing") run.resolvedAtMs = fold.input.nowMs;
    run.state = "resolved";
  }
  const isKnown =
    alert.startedAtMs === undefined
      ? !alert.isKeyOfOneRun || runs.length > 0
      : runs.some((run) => run.startedAtMs === alert.startedAtMs);
  if (!isKnown && fold.unknownEnds < fold.input.unknownEndsMax) {
    const startedAtMs = alert.startedAtMs ?? nextStartMs(fold, runs);
    if (insert(fold, runs, alert, startedAtMs, "released")) fold.unknownEnds++;
  }
  return over.length > 0;
}

/** Inserts a run if a rule matches its alert. */
function insert(
  fold: Fold,
  runs: Run[],
  alert: DeliveredAlert,
  startedAtMs: number,
  state: "firing" | "released",
): boolean {
  const { input, newRuns } = fold;
  const rule = findRule(input.rules, alert.labels);
  if (!rule) return false;
  const run: Run = {
    id: undefined,
    key: alert.key,
    startedAtMs,
    state,
    resolvedAtMs: state === "firing" ? undefined : input.nowMs,
  };
  runs.push(run);
  newRuns.set(run, {
    key: alert.key,
    startedAtMs,
    state,
    labels: alert.labels,
    rule: ruleKey(rule),
    identity: alertIdentity(rule, alert),
    want: rule.want,
    holdMaxSeconds: rule.holdMaxSeconds,
    baseReplicas: input.baseReplicas,
    wantedReplicas: wantedReplicas(rule.want, input.baseReplicas, 1, input.replicasMax),
  });
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
