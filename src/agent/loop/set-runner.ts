import type { DesiredSet } from "../../contracts/agent-protocol/desired-set.ts";
import type { UnsupportedSet } from "../../contracts/agent-protocol/read-desired-sets.ts";
import { readClock } from "../base/clock.ts";
import { isBoundToHost } from "../model/bound-to-host.ts";
import { fingerprint } from "../model/fingerprint.ts";
import { hasUnknown, type ObservedLocalSet } from "../model/local-set.ts";
import type { HashedSetSpec } from "../model/outdated.ts";
import { hashSpec } from "../model/spec-hash.ts";
import { toStepFailure } from "../model/step-failure.ts";
import { noteFailure } from "../set/attempts.ts";
import { findDrainedAtMs, noteReadiness } from "../set/drain.ts";
import { reconcile, reconcileFenced, reconcileUnseen } from "../set/reconcile.ts";
import {
  enterGeneration,
  findGivenUp,
  newSetHistory,
  endDaemonBackoffs,
  clearObserveFailure,
  noteObserved,
  type SetHistory,
} from "../set/set-history.ts";
import { noteRootfs } from "../set/set-rootfs.ts";
import {
  type RetriedStep,
  noteStepBegun,
  noteStepDone,
  noteStepFailed,
  type StepEnd,
} from "../set/step-outcome.ts";
import type { Step, Verdict } from "../set/steps.ts";
import { Alarm } from "./alarm.ts";
import { Lanes } from "./lanes.ts";
import { ObservationSchedule } from "./observation-schedule.ts";
import { probeContainer } from "./probe-container.ts";
import { reportUnsupported, reportVerdict } from "./report-verdict.ts";
import { isSuperseded, isStarting, tryStep } from "./run-step.ts";
import type { SetRunnerContext } from "./set-runner-context.ts";
import { StoredHistory } from "./stored-history.ts";

/**
 * Reconciles one set: observes, decides, begins the next step of each free lane, and repeats. Steps
 * of one lane never overlap; steps of different lanes and sets overlap within the host's limits.
 * Desired changes, Docker's events, ended steps, its own timers and the periodic resync wake it.
 */
export class SetRunner {
  readonly #setId: string;
  readonly #context: SetRunnerContext;
  readonly #history: SetHistory = newSetHistory();
  readonly #stored: StoredHistory;
  readonly #lanes: Lanes;
  readonly #schedule: ObservationSchedule;
  #desired: (DesiredSet & HashedSetSpec) | undefined;
  /** A newer order for the set, whose description this agent cannot read. */
  #unsupported: UnsupportedSet | undefined;
  #observed: ObservedLocalSet | undefined;
  /** The observation may be stale: observe before deciding. */
  #isStale = true;
  /** Incremented by each observation, and by each change that makes one in flight stale. */
  #epoch = 0;
  #isAwake = false;
  #loop: Promise<void> | undefined;
  readonly #alarm: Alarm;

  /** `isAbsent`: a resync has shown that nothing of the set exists here. */
  constructor(setId: string, context: SetRunnerContext, { isAbsent }: { isAbsent: boolean }) {
    this.#setId = setId;
    this.#context = context;
    this.#lanes = new Lanes(context.cancelled, (step, atMs) => this.#onStepEnd(step, atMs));
    this.#alarm = new Alarm(context.clock, () => this.wake());
    this.#schedule = new ObservationSchedule(context);
    this.#isStale = !isAbsent;
    this.#history.isObserved = isAbsent;
    this.#stored = new StoredHistory(setId, context);
    this.#stored.restoreTo(this.#history);
  }

  /**
   * No change is in progress or due. The last observation is current, except for foreign changes of
   * the set.
   */
  get isIdle(): boolean {
    return this.#loop === undefined && !this.#isStale && !this.#lanes.hasChange;
  }

  /** The key of the set in the host's limits. Found sets without a known tenant share a key. */
  get #tenant(): string {
    return this.#desired?.tenant ?? "";
  }

  get epoch(): number {
    return this.#epoch;
  }

  /** Resolves when no work is in progress. Call it after `stopping` is aborted. */
  async settled(): Promise<void> {
    await this.#loop;
    await this.#lanes.settled();
    this.#alarm.cancel();
  }

  /**
   * Sets the desired state; undefined if the control plane does not name the set. Aborts superseded
   * steps, such as a pull for a deleted set. `unsupported` is a newer order that it cannot read.
   */
  setDesired(wanted: DesiredSet | undefined, unsupported?: UnsupportedSet): void {
    if (wanted && this.#desired && wanted.generation < this.#desired.generation) return;
    const before = this.#desired;
    const after = wanted && hashSpec(wanted);
    this.#desired = after;
    this.#unsupported = unsupported;
    if (after) {
      enterGeneration(this.#history, after, (specKey) =>
        this.#context.hasRunBefore(this.#setId, specKey),
      );
      this.#noteObserved();
    }
    const isWanted = (unsupported ?? after)?.desired === "running";
    this.#lanes.abort((step) => isSuperseded(step, { before, after }, isWanted));
    this.wake();
  }

  /** Called when no set of the host may run any longer. */
  onFenced(): void {
    this.#lanes.abort((step) => step.kind === "probe" || isStarting(step));
    this.wake();
  }

  /** Called when anyone changed something of the set. */
  onChange(): void {
    this.#isStale = true;
    this.#epoch++;
    this.wake();
  }

  /** Called when the daemon answers again. Changes while it was unreachable caused no event. */
  onAvailable(): void {
    endDaemonBackoffs(this.#history);
    this.#schedule.reset();
    this.onChange();
  }

  /**
   * Receives the result of a resync that began when this runner was idle at `epoch`. Returns true
   * if the observation differs from the last one, so an event was lost. A runner that has changed
   * since then ignores the result, and one with a step in progress observes again.
   */
  onResync(observed: ObservedLocalSet | undefined, epoch: number): boolean {
    if (this.#epoch !== epoch) return false;
    const hasChanged = fingerprint(observed) !== fingerprint(this.#observed);
    if (!this.isIdle) {
      // A step in progress may have changed it, and an event may be lost.
      if (hasChanged && this.#lanes.hasChange) this.onChange();
      return false;
    }
    this.#isStale = false;
    this.#setObserved(observed);
    if (hasChanged) this.wake();
    return hasChanged;
  }

  /** Adopts a set that a resync found, in a new runner. */
  adopt(observed: ObservedLocalSet): void {
    this.#isStale = false;
    this.#setObserved(observed);
    this.wake();
  }

  /**
   * Receives the bytes that this host's containers have written to their root file systems, by
   * Docker id.
   */
  onRootfsMeasured(usedBytes: ReadonlyMap<string, number>): void {
    // A step may be replacing the observed containers.
    if (!this.#desired || this.#lanes.hasChange) return;
    const { stopsAtRootfs, clock } = this.#context;
    const subject = { desired: this.#desired, observed: this.#observed };
    const hasChanged = noteRootfs(this.#history, subject, {
      usedBytes,
      stops: stopsAtRootfs,
      wallMs: clock.wallMs(),
    });
    if (!hasChanged) return;
    this.#stored.store(this.#history, this.#desired.template);
    this.wake();
  }

  /** Wakes the loop, because there may be something to do. */
  wake(): void {
    this.#isAwake = true;
    if (this.#context.stopping.aborted) return;
    this.#loop ??= this.#run().finally(() => {
      this.#loop = undefined;
      if (this.#isAwake) this.wake();
    });
  }

  async #run(): Promise<void> {
    // Other events of the same moment may follow.
    await Promise.resolve();
    while (this.#isAwake && !this.#context.stopping.aborted) {
      this.#isAwake = false;
      this.#alarm.cancel();
      if (this.#isStale) {
        if (this.#isObservationDelayed()) return;
        const outcome = await this.#observe();
        if (outcome === "failed") return this.#advanceUnseen();
        if (outcome === "stale") continue;
      }
      this.#advance();
    }
  }

  /** True if a change in progress will soon cause an observation. Its end wakes the loop. */
  #isObservationDelayed(): boolean {
    if (this.#lanes.hasExclusiveStep) return true;
    const { newestChangeAtMs } = this.#lanes;
    if (newestChangeAtMs === undefined) return false;
    const atMs = this.#schedule.nextDuringChangesMs(newestChangeAtMs);
    if (atMs <= this.#context.clock.nowMs()) return false;
    this.#alarm.set(atMs);
    return true;
  }

  async #observe(): Promise<"fresh" | "stale" | "failed"> {
    const { port, limits, cancelled, log } = this.#context;
    this.#isStale = false;
    try {
      const { endedCount } = this.#lanes;
      const observe = () => port.observeSet(this.#setId, cancelled);
      const observed = await limits.observations(this.#tenant, observe);
      const isComplete = !hasUnknown(observed);
      this.#schedule.noteObserved({ isComplete });
      this.#isStale ||= !isComplete;
      clearObserveFailure(this.#history);
      // It may show the state before a step that has ended since. A repeated start of a one-shot
      // container would run it twice, so observe again.
      if (this.#lanes.endedCount !== endedCount) return "stale";
      this.#setObserved(observed);
      return "fresh";
    } catch (error) {
      this.#isStale = true;
      if (cancelled.aborted) return "failed";
      this.#schedule.noteFailed();
      log.warn({ err: error, setId: this.#setId }, "cannot observe the set");
      this.#noteUnseen(error);
      this.#alarm.set(this.#schedule.computeRetryAtMs());
      return "failed";
    }
  }

  /**
   * Counts an observation that failed as a failed start, if the set has not run yet. For other sets
   * it changes nothing.
   */
  #noteUnseen(error: unknown): void {
    const desired = this.#desired;
    if (this.#unsupported || desired?.desired !== "running") return;
    if (this.#history.hasRun || findGivenUp(this.#history)) return;
    const { nowMs, mayMove, ...end } = this.#describeEnd(desired);
    const failure = toStepFailure(error, "observe");
    const circumstances = { ...end, nowMs, mayGiveUp: mayMove, isOfObservation: true };
    noteFailure(this.#history.attempts, failure, circumstances);
    const verdict = reconcile(desired, this.#observed, this.#history, nowMs);
    reportVerdict(this.#context, this.#describe(nowMs), desired, verdict);
  }

  #setObserved(observed: ObservedLocalSet | undefined): void {
    this.#epoch++;
    this.#observed = observed;
    this.#noteObserved();
    this.#history.isObserved = true;
  }

  #noteObserved(): void {
    if (!this.#desired) return;
    const moment = { ...readClock(this.#context.clock), busy: this.#lanes.busyContainers() };
    noteObserved(this.#history, this.#desired, this.#observed, moment);
    this.#stored.store(this.#history, this.#desired.template);
  }

  #advance(): void {
    const desired = this.#desired;
    const { canRemove, clock, isFenced, mayStart } = this.#context;
    const nowMs = clock.nowMs();
    if (isFenced()) return this.#act(reconcileFenced(this.#observed, this.#history, nowMs));
    const isKnown = (desired ?? this.#unsupported) !== undefined;
    if (!isKnown && this.#observed && !canRemove(this.#setId)) return; // a found set without orders
    const isUp = this.#observed?.infra?.state === "running";
    if (isKnown && !isUp && !mayStart(this.#setId)) return;
    if (this.#unsupported) {
      const orders = { order: this.#unsupported, known: desired };
      return this.#act(reportUnsupported(this.#context, this.#describe(nowMs), orders));
    }
    const verdict = reconcile(desired, this.#observed, this.#history, nowMs);
    if (desired) reportVerdict(this.#context, this.#describe(nowMs), desired, verdict);
    return this.#act(verdict);
  }

  /** Takes the steps that need no observation. */
  #advanceUnseen(): void {
    const { canRemove, clock, isFenced } = this.#context;
    const order = this.#unsupported ?? this.#desired;
    const unlisted = canRemove(this.#setId) ? ("deleted" as const) : undefined;
    const desired = isFenced() ? "stopped" : order ? order.desired : unlisted;
    if (desired === undefined || desired === "running") return;
    const nowMs = clock.nowMs();
    const { readiness } = this.#history;
    // The order has removed the set from the endpoints.
    noteReadiness(readiness, this.#desired, this.#observed, { isReady: false, nowMs });
    if (!this.#schedule.tryBeginWithoutObservation()) return;
    const drained = isFenced() ? undefined : this.#desired;
    const drainedAtMs = findDrainedAtMs(drained, this.#observed, readiness, nowMs);
    this.#act(reconcileUnseen(desired, this.#history, { nowMs, drainedAtMs }));
  }

  #act({ steps, nextAtMs }: Verdict): void {
    const isKnown = (this.#desired ?? this.#unsupported) !== undefined;
    if (!isKnown && !this.#observed && this.#lanes.isEmpty)
      return this.#context.onObsolete(this.#setId);
    for (const step of steps) {
      if (this.#lanes.mayBegin(step)) this.#begin(step);
      else this.#lanes.preemptFor(step);
    }
    this.#alarm.set(Math.min(nextAtMs, this.#schedule.computeRetryAtMs()));
  }

  #describe(nowMs: number) {
    return {
      nowMs,
      setId: this.#setId,
      observed: this.#observed,
      history: this.#history,
      isFresh: !this.#isStale,
    };
  }

  #begin(step: Step): void {
    this.#lanes.preemptFor(step);
    noteStepBegun(this.#history, step);
    const probed = { desired: this.#desired, observed: this.#observed, history: this.#history };
    const run = (signal: AbortSignal) =>
      step.kind === "probe"
        ? probeContainer(this.#context, probed, step.container, signal)
        : this.#change(step, signal);
    this.#lanes.begin(step, this.#context.clock.nowMs(), run);
  }

  #onStepEnd({ kind }: Step, nextProbeAtMs: number | undefined): void {
    // A probe without news needs no decision and no report until the next one is due.
    if (nextProbeAtMs !== undefined) return this.#alarm.advanceTo(nextProbeAtMs);
    if (kind !== "probe" && kind !== "pull") {
      this.#isStale = true;
      this.#epoch++;
    }
    this.wake();
  }

  async #change(step: RetriedStep, signal: AbortSignal): Promise<undefined> {
    const [desired, observed] = [this.#desired, this.#observed];
    const subject = { setId: this.#setId, tenant: this.#tenant, desired, observed };
    const outcome = await tryStep(this.#context, subject, step, signal);
    if (!outcome) return undefined;
    const end = this.#describeEnd(desired, observed);
    // The attempts count for the present generation.
    const isPresent = desired?.generation === this.#desired?.generation;
    if (!outcome.failure) noteStepDone(this.#history, step, isPresent ? outcome.failed : [], end);
    else if (isPresent) noteStepFailed(this.#history, step, outcome.failure, end);
    return undefined;
  }

  /** The circumstances of a step that began with this desired state and this observation. */
  #describeEnd(desired: DesiredSet | undefined, observed = this.#observed): StepEnd {
    const { clock, random, hasRunBefore } = this.#context;
    const hasRun = () => hasRunBefore(this.#setId);
    return {
      ...readClock(clock),
      random: random(),
      desired: this.#desired,
      generation: desired?.generation,
      observed,
      mayMove: !isBoundToHost(this.#desired, this.#observed, hasRun),
    };
  }
}
