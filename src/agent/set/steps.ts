import type { Reason } from "../../contracts/common/primitives.ts";
import type { ObservedLocalSet } from "../model/local-set.ts";
import type { ReportedState } from "../model/set-state.ts";
import { readContainerHistory } from "./container-history.ts";
import { isUp } from "./container-run.ts";
import type { SetHistory } from "./set-history.ts";

/** A step of the set lane: infra, volume, network, and the limits of the set. */
export type SetStep =
  /** `completed` containers need not be created again. */
  | { kind: "prepare"; completed?: string[] }
  /** Limits or the volume differ from the template. No step of a container waits for a resize. */
  | { kind: "resize" }
  /** `isUrgent`: no hook may delay it. */
  | { kind: "stop-all"; isUrgent?: true }
  | { kind: "remove" };

/** A step of the lane of one container. */
export type ContainerStep =
  /** Waits for the image, which the daemon lacks. */
  | { kind: "pull"; container: string }
  /** Creates the container, or replaces one that is outdated or broken. */
  | { kind: "prepare-container"; container: string }
  | { kind: "start"; container: string }
  /** Runs the hook that follows a start. */
  | { kind: "post-start"; container: string }
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
  /**
   * All containers of the spec have come up in this run of infra, up to date. Once the set has run,
   * without the optional ones.
   */
  isComplete: boolean;
  reason: Reason | null;
}

/** Nothing to do in this state. */
export function noStep(state: ReportedState): Verdict {
  return { steps: [], nextAtMs: Infinity, state, ready: false, isComplete: false, reason: null };
}

/** A step of the set lane as soon as it is due, and not before the set has drained. */
export function stepWhenDue(
  step: SetStep,
  state: ReportedState,
  { attempts }: SetHistory,
  { nowMs, drainedAtMs = -Infinity }: { nowMs: number; drainedAtMs?: number },
): Verdict {
  const due = takeDue([{ step, atMs: Math.max(attempts.retryAtMs, drainedAtMs) }], nowMs);
  return { ...due, state, ready: false, isComplete: false, reason: attempts.failure ?? null };
}

/** A step and the earliest time of it. */
export interface TimedStep {
  step: Step;
  atMs: number;
}

/** The steps that are due, and the time of the next one. */
export function takeDue(
  timed: readonly TimedStep[],
  nowMs: number,
): { steps: Step[]; nextAtMs: number } {
  return {
    steps: timed.filter(({ atMs }) => atMs <= nowMs).map(({ step }) => step),
    nextAtMs: Math.min(Infinity, ...timed.map(({ atMs }) => atMs).filter((atMs) => atMs > nowMs)),
  };
}

/** The pull of a container that needs its image; undefined if it needs none. */
export function timedPull(name: string, history: SetHistory): TimedStep | undefined {
  const { needsImage, attempts } = readContainerHistory(history, name);
  if (!needsImage) return undefined;
  return { step: { kind: "pull", container: name }, atMs: attempts.retryAtMs };
}

/** True if a container of the set runs. */
export function isAnyUp(observed: ObservedLocalSet | undefined): boolean {
  if (!observed) return false;
  return (observed.infra !== undefined && isUp(observed.infra)) || observed.containers.some(isUp);
}
