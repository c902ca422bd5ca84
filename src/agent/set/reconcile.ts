import type { Reason } from "../../contracts/common/primitives.ts";
import { INFRA_CONTAINER } from "../model/container-names.ts";
import type { ObservedLocalSet } from "../model/local-set.ts";
import { isOutdated } from "../model/outdated.ts";
import { areLimitsApplied, ioUnenforceableReason } from "../model/set-limits.ts";
import type { ReportedState } from "../model/set-state.ts";
import { listDeletedCompleted, recallCompleted } from "./completed-containers.ts";
import { readContainerHistory } from "./container-history.ts";
import { hasExited, isUp } from "./container-run.ts";
import {
  computeStatuses,
  containerReason,
  findStartFailure,
  hasComeUp,
  isReady,
  type LocalContainerStatus,
} from "./container-status.ts";
import { nextPreparationAtMs, repeatedPreparationReason } from "./preparations.ts";
import { exitReason } from "./reasons.ts";
import { type DesiredLocalSet, findGivenUp, type SetHistory } from "./set-history.ts";

/** A step of the set lane: infra, volume, network, and the limits of the set. */
export type SetStep =
  /** `completed` containers need not be created again. */
  | { kind: "prepare"; completed?: string[] }
  /** Limits or the volume differ from the template. No step of a container waits for a resize. */
  | { kind: "resize" }
  | { kind: "stop-all" }
  | { kind: "remove" };

/** A step of the lane of one container. */
export type ContainerStep =
  /** Waits for the image, which the daemon lacks. */
  | { kind: "pull"; container: string }
  /** Creates the container, or replaces one that is outdated or broken. */
  | { kind: "prepare-container"; container: string }
  | { kind: "start"; container: string }
  /** The start has failed without an error of a step: stop the container and count an attempt. */
  | { kind: "stop-failed-start"; container: string; reason: Reason; temporary: boolean };

/** A probe of one container, in a lane of its own. */
export interface ProbeStep {
  kind: "probe";
  container: string;
}

/** The port executes it. Any step may be lost, and every step may be repeated. */
export type Step = SetStep | ContainerStep | ProbeStep;

/** Names the lane of a step. Steps of one lane never overlap. */
export function laneOf(step: Step): string {
  if (!("container" in step)) return "set";
  return step.kind === "probe" ? `probe ${step.container}` : `container ${step.container}`;
}

/** True for steps that change several containers, so that no other change may overlap them. */
export function isExclusive({ kind }: Step): boolean {
  return kind === "prepare" || kind === "stop-all" || kind === "remove";
}

export interface Verdict {
  /** The steps that are due, at most one for each lane. */
  steps: Step[];
  /** The time of the next step without another change; Infinity if there is none. */
  nextAtMs: number;
  /** The state to report; the transition table (set-state.ts) may override it. */
  state: ReportedState;
  ready: boolean;
  reason: Reason | null;
}

/**
 * Compares the desired with the observed state and returns the next step of each lane and the
 * report. Pure: equal arguments give an equal verdict. `desired` is undefined if the control plane
 * does not name the set.
 *
 * It decides by the observation, not by earlier steps, so any step may be lost. A crash between two
 * steps, a foreign `docker stop` and a restarted agent look the same.
 *
 * Containers start in the order of their index. One run of the infra container is one start of the
 * set. Containers that have not run in it are started in order; others follow their restart policy.
 * A container that fails delays only those with a higher index that have not started yet.
 */
export function reconcile(
  desired: DesiredLocalSet | undefined,
  observed: ObservedLocalSet | undefined,
  history: SetHistory,
  nowMs: number,
): Verdict {
  if (desired === undefined || desired.desired === "deleted") {
    return observed
      ? stepWhenDue({ kind: "remove" }, "stopping", history, nowMs)
      : noStep("absent");
  }
  if (desired.desired === "stopped") {
    return isAnyUp(observed)
      ? stepWhenDue({ kind: "stop-all" }, "stopping", history, nowMs)
      : verdictWhileStopped(desired, observed, "stopped", history, nowMs);
  }
  const givenUp = findGivenUp(history);
  if (givenUp) return { ...noStep("failed"), reason: givenUp.failure ?? null };
  if (history.overRootfs?.isStopped) {
    const { reason } = history.overRootfs;
    const verdict = isAnyUp(observed)
      ? stepWhenDue({ kind: "stop-all" }, "failed", history, nowMs)
      : verdictWhileStopped(desired, observed, "failed", history, nowMs);
    return { ...verdict, reason };
  }
  return needsPreparation(desired, observed)
    ? decidePreparation(desired, observed, history, nowMs)
    : decideContainers(desired, recallCompleted(desired, observed, history), history, nowMs);
}

/** The verdict on any set of a deleted host: it stops, and nothing is removed (I3). */
export function reconcileFenced(
  observed: ObservedLocalSet | undefined,
  history: SetHistory,
  nowMs: number,
): Verdict {
  if (!isAnyUp(observed)) return noStep("stopped");
  return stepWhenDue({ kind: "stop-all" }, "stopping", history, nowMs);
}

/** The verdict on a set that cannot be observed, and that should not run. It needs only a list. */
export function reconcileUnseen(
  desired: "stopped" | "deleted",
  history: SetHistory,
  nowMs: number,
): Verdict {
  const kind = desired === "deleted" ? "remove" : "stop-all";
  return stepWhenDue({ kind }, "stopping", history, nowMs);
}

/** Nothing to do in this state. */
export function noStep(state: ReportedState): Verdict {
  return { steps: [], nextAtMs: Infinity, state, ready: false, reason: null };
}

/**
 * Verdict on a set that does not run. It is resized all the same, because its host reserves
 * capacity for its next start.
 */
function verdictWhileStopped(
  set: DesiredLocalSet,
  observed: ObservedLocalSet | undefined,
  state: ReportedState,
  history: SetHistory,
  nowMs: number,
): Verdict {
  if (!observed || areLimitsApplied(set.template, observed)) return noStep(state);
  const { retryAtMs, failure } = history.resize;
  const due = takeDue([{ step: { kind: "resize" }, atMs: retryAtMs }], nowMs);
  return { ...due, state, ready: false, reason: failure ?? null };
}

/** A step of the set lane as soon as it is due. */
export function stepWhenDue(
  step: SetStep,
  state: ReportedState,
  { attempts }: SetHistory,
  nowMs: number,
): Verdict {
  const due = takeDue([{ step, atMs: attempts.retryAtMs }], nowMs);
  return { ...due, state, ready: false, reason: attempts.failure ?? null };
}

/** A step and the earliest time of it. */
interface TimedStep {
  step: Step;
  atMs: number;
}

function takeDue(timed: readonly TimedStep[], nowMs: number): { steps: Step[]; nextAtMs: number } {
  return {
    steps: timed.filter(({ atMs }) => atMs <= nowMs).map(({ step }) => step),
    nextAtMs: Math.min(Infinity, ...timed.map(({ atMs }) => atMs).filter((atMs) => atMs > nowMs)),
  };
}

/** True if a container of the set runs. */
export function isAnyUp(observed: ObservedLocalSet | undefined): boolean {
  if (!observed) return false;
  return (observed.infra !== undefined && isUp(observed.infra)) || observed.containers.some(isUp);
}

/** False if infra runs and is up to date, and no other containers than the template's exist. */
function needsPreparation(
  set: DesiredLocalSet,
  observed: ObservedLocalSet | undefined,
): observed is undefined {
  const infra = observed?.infra;
  if (infra?.isUnknown) return false;
  if (!infra || infra.state !== "running" || isOutdated(set, INFRA_CONTAINER, infra)) return true;
  const names = new Set(set.template.containers.map(({ name }) => name));
  return observed.containers.some(({ name }) => !names.has(name));
}

function decidePreparation(
  set: DesiredLocalSet,
  observed: ObservedLocalSet | undefined,
  history: SetHistory,
  nowMs: number,
): Verdict {
  const completed = listDeletedCompleted(set, observed, history);
  const pulls = set.template.containers.flatMap(({ name }) => timedPull(name, history) ?? []);
  const { attempts, preparations, awaitsImages } = history;
  const restartAtMs = readContainerHistory(history, INFRA_CONTAINER).restartAtMs;
  const prepare: TimedStep = {
    step: { kind: "prepare", ...(completed.length > 0 ? { completed } : {}) },
    atMs: Math.max(attempts.retryAtMs, restartAtMs, nextPreparationAtMs(preparations)),
  };
  const due = takeDue(awaitsImages && pulls.length > 0 ? pulls : [...pulls, prepare], nowMs);
  const failure =
    attempts.failure ??
    set.template.containers
      .map(({ name }) => readContainerHistory(history, name).attempts.failure)
      .find((reason) => reason !== undefined);
  const infra = observed?.infra;
  const reason =
    failure ??
    repeatedPreparationReason(preparations, "the set") ??
    (infra && history.hasRun && hasExited(infra) ? exitReason(infra) : null);
  return { ...due, state: history.hasRun ? "running" : "preparing", ready: false, reason };
}

function timedPull(name: string, history: SetHistory): TimedStep | undefined {
  const { needsImage, attempts } = readContainerHistory(history, name);
  if (!needsImage) return undefined;
  return { step: { kind: "pull", container: name }, atMs: attempts.retryAtMs };
}

/** Verdict on a prepared set: creates, starts, restarts, resizes and probes its containers. */
function decideContainers(
  set: DesiredLocalSet,
  observed: ObservedLocalSet,
  history: SetHistory,
  nowMs: number,
): Verdict {
  const statuses = computeStatuses(set, observed, history);
  const { startable, replaceable, isComplete } = findStartable(statuses);
  const changes = statuses.flatMap(
    (status) =>
      timeStep(status, {
        history,
        isStartable: startable.has(status.name),
        isReplaceable: replaceable.has(status.name),
        nowMs,
      }) ?? [],
  );
  const hasRun = history.hasRun || isComplete;
  const failed = changes.map(({ step }) => step).find((step) => step.kind === "stop-failed-start");
  const isStarting = changes.some(({ step, atMs }) => step.kind !== "pull" && atMs <= nowMs);
  const resizes: TimedStep[] = areLimitsApplied(set.template, observed)
    ? []
    : [{ step: { kind: "resize" }, atMs: history.resize.retryAtMs }];
  const timed = [
    ...changes,
    ...(isStarting && !history.hasRun ? [] : resizes),
    ...statuses.flatMap(timeProbe),
  ];
  return {
    ...takeDue(timed, nowMs),
    state: hasRun ? "running" : statuses.every(isUpToDateStatus) ? "starting" : "preparing",
    ready: isComplete && statuses.every(isReady),
    reason:
      failed?.reason ??
      findReason(statuses, history) ??
      ioUnenforceableReason(set.template, observed) ??
      null,
  };
}

function isUpToDateStatus({ isUpToDate }: LocalContainerStatus): boolean {
  return isUpToDate;
}

/** The next step of a container's lane; undefined if it has none. */
function timeStep(
  status: LocalContainerStatus,
  {
    history,
    isStartable,
    isReplaceable,
    nowMs,
  }: { history: SetHistory; isStartable: boolean; isReplaceable: boolean; nowMs: number },
): TimedStep | undefined {
  const { name: container, seen, known, phase, isUpToDate } = status;
  const { attempts, preparations, restartAtMs } = known;
  if (seen?.isUnknown) return undefined;
  const pull = timedPull(container, history);
  if (pull) return pull;
  if (!isUpToDate) {
    if (phase === "running" && !isReplaceable) return undefined;
    const atMs = Math.max(attempts.retryAtMs, nextPreparationAtMs(preparations));
    return { step: { kind: "prepare-container", container }, atMs };
  }
  const failure = history.hasRun ? undefined : findStartFailure(status);
  if (failure) return { step: { kind: "stop-failed-start", container, ...failure }, atMs: nowMs };
  if (!isStartable) return undefined;
  const atMs = Math.max(attempts.retryAtMs, phase === "exited" ? restartAtMs : 0);
  return { step: { kind: "start", container }, atMs };
}

function timeProbe({ name, template, phase, run }: LocalContainerStatus): TimedStep[] {
  if (phase !== "running" || !template.options.health || !run) return [];
  return [{ step: { kind: "probe", container: name }, atMs: run.probes.nextAtMs }];
}

/**
 * `startable`: the containers to restart, and those of the lowest index that has not come up.
 * `replaceable`: outdated containers may be replaced once all lower indexes have come up, up to
 * date. `isComplete`: all containers have come up in this run of infra, up to date.
 */
function findStartable(statuses: readonly LocalContainerStatus[]): {
  startable: Set<string>;
  replaceable: Set<string>;
  isComplete: boolean;
} {
  const startable = new Set<string>();
  const replaceable = new Set<string>();
  let haveLowerComeUp = true;
  let areLowerUpToDate = true;
  const indexes = [...new Set(statuses.map(({ template }) => template.index))];
  for (const index of indexes.sort((a, b) => a - b)) {
    const group = statuses.filter(({ template }) => template.index === index);
    for (const { name, phase } of group) {
      if (phase === "exited" || (phase === "not-started" && haveLowerComeUp)) startable.add(name);
      if (haveLowerComeUp && areLowerUpToDate) replaceable.add(name);
    }
    haveLowerComeUp &&= group.every(hasComeUp);
    areLowerUpToDate &&= group.every(isUpToDateStatus);
  }
  return { startable, replaceable, isComplete: haveLowerComeUp && areLowerUpToDate };
}

/** The first problem that keeps the set from its desired state; null if there is none. */
function findReason(
  statuses: readonly LocalContainerStatus[],
  { attempts, resize, overRootfs }: SetHistory,
): Reason | null {
  if (attempts.failure) return attempts.failure;
  for (const status of statuses) {
    const reason = containerReason(status);
    if (reason) return reason;
  }
  return resize.failure ?? overRootfs?.reason ?? null;
}
