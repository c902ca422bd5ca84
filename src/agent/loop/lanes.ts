import { linkAbort } from "../../lib/async/abort.ts";
import { isExclusive, laneOf, type Step } from "../set/steps.ts";

/** The time of the next probe, after one that changed nothing. */
type StepRun = Promise<number | undefined>;
type OnStepEnd = (step: Step, nextProbeAtMs: number | undefined) => void;

interface RunningStep {
  step: Step;
  startedAtMs: number;
  abort: AbortController;
  ended: Promise<void>;
}

/**
 * The steps of one set that are in progress, at most one for each lane. There is one lane for the
 * set, and two for each container: one for its pull, creation, start and stop, one for its probes.
 */
export class Lanes {
  readonly #running = new Map<string, RunningStep>();
  readonly #cancelled: AbortSignal;
  readonly #onEnd: OnStepEnd;
  /** The number of changes that have ended. */
  endedCount = 0;

  /** `cancelled` aborts all steps. `onEnd` is called when the lane of an ended step is free. */
  constructor(cancelled: AbortSignal, onEnd: OnStepEnd) {
    this.#cancelled = cancelled;
    this.#onEnd = onEnd;
  }

  get isEmpty(): boolean {
    return this.#running.size === 0;
  }

  /** A step that changes containers is in progress. Pulls and probes do not change any. */
  get hasChange(): boolean {
    return this.#list().some(isChange);
  }

  /** A step is in progress that no other change of the set may overlap. */
  get hasExclusiveStep(): boolean {
    return this.#list().some(({ step }) => isExclusive(step));
  }

  /** Start of the newest change in progress, by the monotonic clock; undefined without one. */
  get newestChangeAtMs(): number | undefined {
    const times = this.#list()
      .filter(isChange)
      .map(({ startedAtMs }) => startedAtMs);
    return times.length > 0 ? Math.max(...times) : undefined;
  }

  /** The containers that a step is changing. */
  busyContainers(): Set<string> {
    const names = this.#list()
      .filter(isChange)
      .map(({ step }) => ("container" in step ? step.container : undefined));
    return new Set(names.filter((name) => name !== undefined));
  }

  /** True if the step's lane is free and no step in progress excludes it. */
  mayBegin(step: Step): boolean {
    if (this.#running.has(laneOf(step)) || this.hasExclusiveStep) return false;
    if (isExclusive(step)) return !this.hasChange;
    return step.kind !== "probe" || !this.busyContainers().has(step.container);
  }

  /** Begins a step. `run` never rejects, and must end soon after its signal is aborted. */
  begin(step: Step, startedAtMs: number, run: (signal: AbortSignal) => StepRun): void {
    const { controller: abort, unlink } = linkAbort(this.#cancelled);
    const lane = laneOf(step);
    const free = () => {
      unlink();
      this.#running.delete(lane);
      if (isChange({ step })) this.endedCount++;
    };
    const ended = run(abort.signal)
      .finally(free)
      // A step of another lane that aborted it waits for its end.
      .then((atMs) => this.#onEnd(step, abort.signal.aborted ? undefined : atMs));
    this.#running.set(lane, { step, startedAtMs, abort, ended });
  }

  /**
   * Aborts the changes and probes that an exclusive step waits for, because one of them may hang.
   * All of them can be repeated.
   */
  preemptFor(due: Step): void {
    if (!isExclusive(due) || this.hasExclusiveStep) return;
    this.abort(({ kind }) => kind !== "pull");
  }

  /** Aborts the steps in progress that a newer decision supersedes. */
  abort(isSuperseded: (step: Step) => boolean): void {
    for (const { step, abort } of this.#list())
      if (isSuperseded(step)) abort.abort(new Error("the step is superseded"));
  }

  /** Resolves when no step is in progress. */
  async settled(): Promise<void> {
    while (!this.isEmpty) await Promise.allSettled(this.#list().map(({ ended }) => ended));
  }

  #list(): RunningStep[] {
    return [...this.#running.values()];
  }
}

function isChange({ step: { kind } }: Pick<RunningStep, "step">): boolean {
  return kind !== "pull" && kind !== "probe";
}
