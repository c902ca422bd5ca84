import type { Reason } from "../../contracts/common/primitives.ts";
import type { ContainerTemplate } from "../../contracts/api/set-template.ts";
import { INFRA_CONTAINER } from "../model/container-names.ts";
import type { LocalSetSpec, ObservedContainer, ObservedLocalSet } from "../model/local-set.ts";
import {
  type ContainerHistory,
  containerHistory,
  hasExited,
  getRunId,
  memoryUsageText,
} from "./container-history.ts";
import type { DesiredLocalSet, SetHistory } from "./set-history.ts";
import { nextPreparationAtMs, repeatedPreparationReason } from "./preparations.ts";
import type { ReportedState } from "../model/set-state.ts";
import { ioUnenforceableReason, areLimitsApplied } from "../model/set-limits.ts";
import { isFinalExit, listDeletedCompleted, recallCompleted } from "./completed-containers.ts";
import { isOutdated } from "../model/spec-hash.ts";
import { truncate } from "../../lib/text/truncate.ts";

/** The next step for a set. The port executes it; every step may be repeated. */
export type SetAction =
  | { kind: "none" }
  /** Nothing to do before this time or the next change. */
  | { kind: "wait"; untilMs: number }
  /** `completed` containers need not be created again. */
  | { kind: "prepare"; completed?: string[] }
  /** Limits or the volume differ from the template. No other step waits for a resize. */
  | { kind: "resize" }
  | { kind: "start"; containers: string[] }
  /** Another step is due at `untilMs` and aborts the probes; Infinity if none is. */
  | { kind: "probe"; containers: string[]; untilMs: number }
  /**
   * A start has failed without an error of a step: stop these containers and count a failed
   * attempt.
   */
  | { kind: "fail"; containers: string[]; reason: Reason; temporary: boolean }
  | { kind: "stop-all" }
  | { kind: "remove" };

export interface Verdict {
  action: SetAction;
  /** The state to report; the transition table (set-state.ts) may override it. */
  state: ReportedState;
  ready: boolean;
  reason: Reason | null;
}

/**
 * Compares the desired with the observed state and returns the next step and the report. Pure:
 * equal arguments give an equal verdict. `desired` is undefined if the control plane does not name
 * the set.
 *
 * It decides by the observation, not by earlier steps, so any step may be lost. A crash between two
 * steps, a foreign `docker stop` and a restarted agent look the same.
 *
 * Containers start in the order of their index. One run of the infra container is one start of the
 * set. Containers that have not run in it are started in order; others follow their restart policy.
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
      : noAction("absent");
  }
  if (desired.desired === "stopped") {
    return isAnyUp(observed)
      ? stepWhenDue({ kind: "stop-all" }, "stopping", history, nowMs)
      : verdictWhileStopped(desired, observed, "stopped", history, nowMs);
  }
  if (history.gaveUp) return { ...noAction("failed"), reason: history.failure ?? null };
  if (history.overRootfs?.isStopped) {
    const { reason } = history.overRootfs;
    const verdict = isAnyUp(observed)
      ? stepWhenDue({ kind: "stop-all" }, "failed", history, nowMs)
      : verdictWhileStopped(desired, observed, "failed", history, nowMs);
    return { ...verdict, reason };
  }
  const recalled = observed && recallCompleted(desired, observed, history);
  if (needsPreparation(desired, recalled)) {
    const completed = listDeletedCompleted(desired, observed, history);
    const action = { kind: "prepare" as const, ...(completed.length > 0 ? { completed } : {}) };
    const restartAtMs = containerHistory(history, INFRA_CONTAINER).restartAtMs;
    const state = history.hasRun ? "running" : "preparing";
    const dueAtMs = Math.max(restartAtMs, nextPreparationAtMs(history));
    const verdict = stepWhenDue(action, state, history, nowMs, dueAtMs);
    return { ...verdict, reason: verdict.reason ?? repeatedPreparationReason(history) ?? null };
  }
  return keepRunning(desired, recalled, history, nowMs);
}

/** The verdict on any set of a deleted host: it stops, and nothing is removed (I3). */
export function reconcileFenced(
  observed: ObservedLocalSet | undefined,
  history: SetHistory,
  nowMs: number,
): Verdict {
  if (!isAnyUp(observed)) return noAction("stopped");
  return stepWhenDue({ kind: "stop-all" }, "stopping", history, nowMs);
}

/** Nothing to do in this state. */
export function noAction(state: ReportedState): Verdict {
  return { action: { kind: "none" }, state, ready: false, reason: null };
}

/**
 * Verdict on a set that does not run. It is resized all the same, because its host reserves
 * capacity for its next start.
 */
function verdictWhileStopped(
  set: LocalSetSpec,
  observed: ObservedLocalSet | undefined,
  state: ReportedState,
  history: SetHistory,
  nowMs: number,
): Verdict {
  if (!observed || areLimitsApplied(set.template, observed)) return noAction(state);
  const { retryAtMs, failure } = history.resize;
  const action: SetAction =
    retryAtMs > nowMs ? { kind: "wait", untilMs: retryAtMs } : { kind: "resize" };
  return { action, state, ready: false, reason: failure ?? null };
}

/** The action, or a wait until it is due. */
export function stepWhenDue(
  action: SetAction,
  state: ReportedState,
  history: SetHistory,
  nowMs: number,
  notBeforeMs = 0,
): Verdict {
  const dueAtMs = Math.max(history.retryAtMs, notBeforeMs);
  return {
    action: dueAtMs > nowMs ? { kind: "wait", untilMs: dueAtMs } : action,
    state,
    ready: false,
    reason: history.failure ?? null,
  };
}

function isUp({ state }: ObservedContainer): boolean {
  return state === "running" || state === "restarting";
}

/** True if a container of the set runs. */
export function isAnyUp(observed: ObservedLocalSet | undefined): boolean {
  if (!observed) return false;
  return (observed.infra !== undefined && isUp(observed.infra)) || observed.containers.some(isUp);
}

/** False if infra runs and exactly the template's containers exist, all up to date. */
function needsPreparation(
  set: LocalSetSpec,
  observed: ObservedLocalSet | undefined,
): observed is undefined {
  const infra = observed?.infra;
  if (!infra || infra.state !== "running" || isOutdated(set, INFRA_CONTAINER, infra)) return true;
  const { containers } = set.template;
  if (observed.containers.length !== containers.length) return true;
  return containers.some(({ name }) => {
    const seen = observed.containers.find((candidate) => candidate.name === name);
    return !seen || seen.state === "dead" || isOutdated(set, name, seen);
  });
}

/** The status of a template's container within the current run of infra. */
interface LocalContainerStatus {
  name: string;
  template: ContainerTemplate;
  seen: ObservedContainer;
  known: Readonly<ContainerHistory>;
  /**
   * not-started: not started in this run of infra. exited: the policy restarts it. completed: the
   * policy does not restart it.
   */
  phase: "not-started" | "running" | "exited" | "completed";
}

function computeStatus(
  template: ContainerTemplate,
  seen: ObservedContainer,
  history: SetHistory,
): LocalContainerStatus {
  const { name } = template;
  const known = containerHistory(history, name);
  return { name, template, seen, known, phase: computePhase() };

  function computePhase(): LocalContainerStatus["phase"] {
    if (isUp(seen)) return "running";
    const run = getRunId(seen);
    const { lastRun } = known;
    if (!hasExited(seen) || lastRun?.infraRun === undefined) return "not-started";
    if (lastRun.run !== run || lastRun.infraRun !== history.infraRun) return "not-started";
    if (known.failedRun === run) return "exited"; // stopped by a failed attempt
    return isFinalExit(template, seen.exitCode) ? "completed" : "exited";
  }
}

/** Verdict on a prepared set: starts containers by index, restarts, resizes and probes them. */
function keepRunning(
  set: LocalSetSpec,
  observed: ObservedLocalSet,
  history: SetHistory,
  nowMs: number,
): Verdict {
  const statuses = set.template.containers.flatMap((template) => {
    const seen = observed.containers.find((candidate) => candidate.name === template.name);
    return seen ? [computeStatus(template, seen, history)] : [];
  });
  const failed = history.hasRun ? undefined : findFailedStart(statuses);
  if (failed) return { action: failed, state: "starting", ready: false, reason: failed.reason };

  const { startable, isComplete } = findStartable(statuses);
  const hasRun = history.hasRun || isComplete;
  const dueAtMs = ({ known, phase }: LocalContainerStatus) =>
    Math.max(history.retryAtMs, phase === "exited" ? known.restartAtMs : 0);
  const due = startable.filter((status) => dueAtMs(status) <= nowMs);
  const probed = statuses.filter(
    ({ phase, template }) => phase === "running" && template.options.health,
  );
  const report = {
    state: hasRun ? ("running" as const) : ("starting" as const),
    ready: isComplete && statuses.every(isReady),
    reason: findReason(statuses, history) ?? ioUnenforceableReason(set.template, observed) ?? null,
  };
  if (due.length > 0) return { action: { kind: "start", containers: listNames(due) }, ...report };
  const resizeAtMs = areLimitsApplied(set.template, observed) ? Infinity : history.resize.retryAtMs;
  if (resizeAtMs <= nowMs) return { action: { kind: "resize" }, ...report };
  const startAtMs = Math.min(resizeAtMs, ...startable.map(dueAtMs));
  const dueProbes = probed.filter(({ known }) => known.nextProbeAtMs <= nowMs);
  if (dueProbes.length > 0) {
    const action = { kind: "probe" as const, containers: listNames(dueProbes), untilMs: startAtMs };
    return { action, ...report };
  }
  const untilMs = Math.min(startAtMs, ...probed.map(({ known }) => known.nextProbeAtMs));
  const action: SetAction = Number.isFinite(untilMs) ? { kind: "wait", untilMs } : { kind: "none" };
  return { action, ...report };
}

function listNames(statuses: readonly LocalContainerStatus[]): string[] {
  return statuses.map(({ name }) => name);
}

/**
 * The containers that may start now: those to restart, and those of the lowest index that has not
 * come up. `isComplete`: all containers have come up in this run of infra.
 */
function findStartable(statuses: readonly LocalContainerStatus[]): {
  startable: LocalContainerStatus[];
  isComplete: boolean;
} {
  const startable: LocalContainerStatus[] = [];
  for (const index of [...new Set(statuses.map(({ template }) => template.index))].sort(
    (a, b) => a - b,
  )) {
    const group = statuses.filter(({ template }) => template.index === index);
    startable.push(...group.filter(({ phase }) => phase === "not-started" || phase === "exited"));
    if (!group.every(hasComeUp)) return { startable, isComplete: false };
  }
  return { startable, isComplete: startable.length === 0 };
}

/** A container with a health check delays the next index until it has been healthy once. */
function hasComeUp({ phase, template, known }: LocalContainerStatus): boolean {
  if (phase === "running") return !template.options.health || known.wasHealthy;
  return phase === "completed";
}

function isReady({ phase, template, seen, known }: LocalContainerStatus): boolean {
  if (phase === "completed") return seen.exitCode === 0;
  return seen.state === "running" && (!template.options.health || known.isHealthy);
}

/**
 * Before a set has run, a container that exits or does not become healthy in time is a failed
 * start.
 */
function findFailedStart(
  statuses: readonly LocalContainerStatus[],
): Extract<SetAction, { kind: "fail" }> | undefined {
  for (const { name, template, seen, known, phase } of statuses) {
    const { health } = template.options;
    const isUncounted = known.failedRun !== getRunId(seen);
    const hasEnded = phase === "exited" || phase === "completed";
    if (seen.startFailure !== undefined && hasEnded && isUncounted) {
      return fail(name, { ...exitReason(name, seen), phase: "start" }, false);
    }
    if (phase === "exited" && isUncounted) {
      return fail(name, { ...exitReason(name, seen), phase: "start" }, true);
    }
    // No policy restarts it, so it can never become healthy.
    if (phase === "completed" && health && !known.wasHealthy) {
      return fail(name, { ...exitReason(name, seen), phase: "start" }, false);
    }
    const isUnhealthy =
      health && !known.wasHealthy && known.probeFailures >= health.failureThreshold;
    if (phase === "running" && isUnhealthy && isUncounted) {
      return fail(name, unhealthyReason(name, known), true);
    }
  }
  return undefined;
}

function fail(name: string, reason: Reason, temporary: boolean) {
  return { kind: "fail" as const, containers: [name], reason, temporary };
}

/** The first problem that keeps the set from its desired state; null if there is none. */
function findReason(statuses: readonly LocalContainerStatus[], history: SetHistory): Reason | null {
  if (history.failure) return history.failure;
  for (const status of statuses) {
    const reason = containerReason(status);
    if (reason) return reason;
  }
  return history.resize.failure ?? history.overRootfs?.reason ?? null;
}

function containerReason(status: LocalContainerStatus): Reason | undefined {
  const { name, seen, known, phase } = status;
  if (phase === "exited" || (phase === "completed" && seen.exitCode !== 0))
    return exitReason(name, seen);
  if (phase === "running" && known.probeDetail !== undefined && !isReady(status)) {
    return unhealthyReason(name, known);
  }
  return undefined;
}

/** Judges one container for the report: its readiness, and the reason if it is not ready. */
export function judgeContainer(
  template: ContainerTemplate,
  observed: ObservedLocalSet,
  history: SetHistory,
): { ready: boolean; reason: Reason | null } {
  const seen = observed.containers.find((candidate) => candidate.name === template.name);
  if (!seen) return { ready: false, reason: null };
  const status = computeStatus(template, seen, history);
  const isInfraUp = observed.infra?.state === "running";
  const reason = containerReason(status) ?? status.known.outOfMemory ?? null;
  return { ready: isInfraUp && isReady(status), reason };
}

function exitReason(name: string, seen: ObservedContainer): Reason {
  const code = seen.exitCode === undefined ? "an unknown code" : `code ${seen.exitCode}`;
  const why = seen.oomKilled ? ` (out of memory${memoryUsageText(seen)})` : "";
  const failure = seen.startFailure;
  return {
    ...(failure === undefined
      ? {
          code: seen.oomKilled ? "out-of-memory" : "container-exited",
          text: `"${name}" exited with ${code}${why}`,
        }
      : { code: "start-failed", text: truncate(`"${name}" cannot be started: ${failure}`, 2_000) }),
    phase: "run",
    ...(seen.finishedAt === undefined ? {} : { at: new Date(seen.finishedAt).toISOString() }),
  };
}

function unhealthyReason(name: string, known: Readonly<ContainerHistory>): Reason {
  const detail = known.probeDetail ?? "no probe has succeeded yet";
  return {
    code: "not-healthy",
    text: truncate(`"${name}" is not healthy: ${detail}`, 2_000),
    phase: "health",
  };
}
