import type { ContainerFailure } from "../model/local-set.ts";
import { HOOK_FAILED } from "../base/agent-error.ts";
import type { ClockReading } from "../base/clock-reading.ts";
import type { ObservedLocalSet } from "../model/local-set.ts";
import { type StepFailure, toStepFailure } from "../model/step-failure.ts";
import { type Attempts, noteAnswered, noteFailure, noteSuccess } from "./attempts.ts";
import {
  ensureContainerHistory,
  findRunIn,
  noteFailedRun,
  noteStopping,
} from "./container-history.ts";
import { noteHookFailed } from "./container-run.ts";
import { notePrepared } from "./preparations.ts";
import type { ProbeStep, Step } from "./steps.ts";
import { noteResized } from "./resize-history.ts";
import type { DesiredLocalSet, SetHistory } from "./set-history.ts";

/** A step whose failure counts, and which is then repeated. */
export type RetriedStep = Exclude<Step, ProbeStep>;

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

/** Records that a step begins: the exits of containers that it stops do not count as theirs. */
export function noteStepBegun({ containers }: SetHistory, step: Step): void {
  if (step.kind === "stop-all" || step.kind === "remove") {
    for (const known of containers.values()) noteStopping(known);
  } else if (step.kind === "prepare-container" || step.kind === "stop-failed-start") {
    const known = containers.get(step.container);
    if (known) noteStopping(known);
  }
}

/** Records a successful step. `failures`: the containers that a preparation could not create. */
export function noteStepDone(
  history: SetHistory,
  step: RetriedStep,
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
      Object.assign(ensureContainerHistory(history, step.container), {
        needsImage: false,
        hasPulled: true,
      });
      break;
    case "prepare-container":
      notePrepared(ensureContainerHistory(history, step.container), end.nowMs);
      ensureContainerHistory(history, step.container).hasPulled = false;
      break;
    case "post-start": {
      const run = findRunIn(history, end.observed, step.container);
      if (run) run.hook.isDone = true;
      break;
    }
    case "stop-failed-start": {
      if (end.desired?.generation !== end.generation) return;
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

/**
 * Records a failed step. A missing image does not count at first: the container's lane pulls it
 * next.
 */
export function noteStepFailed(
  history: SetHistory,
  step: RetriedStep,
  failure: StepFailure,
  end: StepEnd,
): void {
  if (step.kind === "resize") return noteResized(history, failure, end);
  if (step.kind === "post-start" && failure.reason.code === HOOK_FAILED)
    return noteHookEnd(history, step.container, failure, end);
  if (failure.needsImage && noteImageMissing(history, step, { ...end, ...failure }))
    return undefined;
  const isStart = step.kind !== "stop-all" && step.kind !== "remove";
  const mayGiveUp = isStart && end.mayMove && !history.hasRun;
  return noteFailure(attemptsOf(history, step), failure, { ...end, mayGiveUp });
}

/** Records a hook that ran and failed: the decision that follows counts it as a failed start. */
function noteHookEnd(
  history: SetHistory,
  name: string,
  { reason }: StepFailure,
  { desired, observed, nowMs }: StepEnd,
): void {
  const template = desired?.template.containers.find((container) => container.name === name);
  const run = findRunIn(history, observed, name);
  if (run && template) noteHookFailed(run, template, reason, nowMs);
}

/**
 * Lets the lanes of the containers pull. Returns false if they have done so, which is a failure:
 * the daemon has an image that it cannot use, or something deletes images.
 */
function noteImageMissing(
  history: SetHistory,
  step: RetriedStep,
  { desired, containers }: StepEnd & Pick<StepFailure, "containers">,
): boolean {
  if (step.kind === "prepare") {
    const isRepeated = history.awaitsImages;
    history.awaitsImages = true;
    // Without their names, the pulls find out which of the images are missing.
    const all = desired?.template.containers.map(({ name }) => name) ?? [];
    for (const name of containers ?? all)
      if (!step.completed?.includes(name)) ensureContainerHistory(history, name).needsImage = true;
    return !isRepeated;
  }
  if (!("container" in step)) return false;
  const lacking = (containers ?? [step.container]).map((name) =>
    ensureContainerHistory(history, name),
  );
  const isRepeated = lacking.some(({ hasPulled }) => hasPulled);
  for (const known of lacking) Object.assign(known, { needsImage: true, hasPulled: false });
  return !isRepeated;
}

function attemptsOf(history: SetHistory, step: RetriedStep): Attempts {
  return "container" in step
    ? ensureContainerHistory(history, step.container).attempts
    : history.attempts;
}
