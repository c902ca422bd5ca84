import type { ContainerFailure } from "../model/local-set.ts";
import type { ClockReading } from "../base/clock-reading.ts";
import type { ObservedLocalSet } from "../model/local-set.ts";
import { type StepFailure, toStepFailure } from "../model/step-failure.ts";
import { type Attempts, noteAnswered, noteFailure, noteSuccess } from "./attempts.ts";
import { changeContainer, noteFailedRun } from "./container-history.ts";
import { notePrepared } from "./preparations.ts";
import type { ProbeStep, Step } from "./reconcile.ts";
import { noteResized } from "./resize-history.ts";
import type { DesiredLocalSet, SetHistory } from "./set-history.ts";

/** A step that may change something. */
export type ChangeStep = Exclude<Step, ProbeStep>;

/** The circumstances of a step that has ended. */
export interface StepEnd extends ClockReading {
  /** In [0, 1). */
  random: number;
  /** The state that is desired now. */
  desired: DesiredLocalSet | undefined;
  /** The generation that the step was decided by. */
  generation: number | undefined;
  /** The observation that the step was decided by. */
  observed: ObservedLocalSet | undefined;
  /** The set can start on another host. */
  mayMove: boolean;
}

/** Records a successful step. `failures`: the containers that a preparation could not create. */
export function noteStepDone(
  history: SetHistory,
  step: ChangeStep,
  failures: readonly ContainerFailure[],
  end: StepEnd,
): void {
  const attempts = attemptsOf(history, step);
  noteAnswered(attempts);
  switch (step.kind) {
    case "resize":
      // The size of a newer generation is untried and must not wait for this backoff.
      if (end.desired?.generation === end.generation) noteResized(history, undefined, end);
      return;
    case "prepare":
      notePrepared(history, end.nowMs);
      history.awaitsImages = false;
      for (const { container, error } of failures) {
        const failure = toStepFailure(error, "prepare-container");
        noteStepFailed(history, { kind: "prepare-container", container }, failure, end);
      }
      break;
    case "pull":
      changeContainer(history, step.container).needsImage = false;
      break;
    case "prepare-container":
      notePrepared(changeContainer(history, step.container), end.nowMs);
      break;
    case "fail": {
      noteFailedRun(history, end.observed, step.container);
      const { reason, temporary } = step;
      noteStepFailed(history, step, { reason, temporary, isUnavailable: false }, end);
      return;
    }
    default:
  }
  // Before a set has run, only a successful start of all of it resets the failed attempts.
  if (history.hasRun || step.kind === "stop-all" || step.kind === "remove") noteSuccess(attempts);
}

/** Records a failed step. A missing image does not count: the container's lane pulls it next. */
export function noteStepFailed(
  history: SetHistory,
  step: ChangeStep,
  failure: StepFailure,
  end: StepEnd,
): void {
  if (step.kind === "resize") return noteResized(history, failure, end);
  if (failure.needsImage) return noteImageMissing(history, step, end);
  const isStart = step.kind !== "stop-all" && step.kind !== "remove";
  const mayGiveUp = isStart && end.mayMove && !history.hasRun;
  return noteFailure(attemptsOf(history, step), failure, { ...end, mayGiveUp });
}

function noteImageMissing(
  history: SetHistory,
  step: ChangeStep,
  { desired, nowMs }: StepEnd,
): void {
  if (step.kind === "prepare") {
    // The pulls find out which of the images are missing.
    history.awaitsImages = true;
    notePrepared(history, nowMs);
    for (const { name } of desired?.template.containers ?? [])
      if (!step.completed?.includes(name)) changeContainer(history, name).needsImage = true;
  } else if ("container" in step) {
    const known = changeContainer(history, step.container);
    // It counts as a preparation, so that a backoff ends a loop of pulls without effect.
    notePrepared(known, nowMs);
    known.needsImage = true;
  }
}

function attemptsOf(history: SetHistory, step: ChangeStep): Attempts {
  return "container" in step ? changeContainer(history, step.container).attempts : history.attempts;
}
