import type { Reason } from "../../contracts/common/primitives.ts";
import type { ObservedLocalSet } from "../model/local-set.ts";
import { areLimitsApplied, ioUnenforceableReason } from "../model/set-limits.ts";
import { isHookDone } from "./container-run.ts";
import {
  computeStatuses,
  containerReason,
  findHookFailure,
  findStartFailure,
  hasComeUp,
  isReady,
  type LocalContainerStatus,
} from "./container-status.ts";
import { isRequired } from "./drain.ts";
import { nextPreparationAtMs } from "./preparations.ts";
import type { DesiredLocalSet, SetHistory } from "./set-history.ts";
import { takeDue, type TimedStep, timedPull, type Verdict } from "./steps.ts";

/** Verdict on a prepared set: creates, starts, restarts, resizes and probes its containers. */
export function decideContainers(
  set: DesiredLocalSet,
  observed: ObservedLocalSet,
  history: SetHistory,
  { nowMs, drainedAtMs }: { nowMs: number; drainedAtMs: number },
): Verdict {
  const statuses = computeStatuses(set, observed, history);
  const { startable, replaceable } = findStartable(statuses);
  // A container must not stop while another one waits for its image.
  const lacksImage = statuses.some(({ known }) => known.needsImage);
  const changes = statuses.flatMap(
    (status) =>
      timeStep(status, {
        history,
        isStartable: startable.has(status.name),
        isReplaceable: !lacksImage && replaceable.has(status.name),
        drainedAtMs,
        nowMs,
      }) ?? [],
  );
  // Once the set has run, it serves without its optional containers.
  const counted = history.hasRun
    ? statuses.filter(({ template }) => isRequired(template))
    : statuses;
  const isComplete = counted.every((status) => status.isUpToDate && hasComeUp(status));
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
    ready: isComplete && counted.every(isReady),
    isComplete,
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
    drainedAtMs,
    nowMs,
  }: {
    history: SetHistory;
    isStartable: boolean;
    isReplaceable: boolean;
    drainedAtMs: number;
    nowMs: number;
  },
): TimedStep | undefined {
  const { name: container, template, seen, known, run, phase, isUpToDate } = status;
  const { attempts, preparations, restartAtMs } = known;
  if (seen?.isUnknown) return undefined;
  const pull = timedPull(container, history);
  if (pull) return pull;
  if (!isUpToDate) {
    const isStopped = phase === "running";
    if (isStopped && !isReplaceable) return undefined;
    const atMs = Math.max(
      attempts.retryAtMs,
      nextPreparationAtMs(preparations),
      isStopped && (isRequired(template) || !history.hasRun) ? drainedAtMs : -Infinity,
    );
    return { step: { kind: "prepare-container", container }, atMs };
  }
  const failure = history.hasRun ? findHookFailure(status) : findStartFailure(status);
  if (failure) return { step: { kind: "stop-failed-start", container, ...failure }, atMs: nowMs };
  if (phase === "running" && run && !isHookDone(template, run)) {
    const atMs = Math.max(attempts.retryAtMs, run.hook.nextAtMs);
    return { step: { kind: "post-start", container }, atMs };
  }
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
 * date.
 */
function findStartable(statuses: readonly LocalContainerStatus[]): {
  startable: Set<string>;
  replaceable: Set<string>;
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
  return { startable, replaceable };
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
