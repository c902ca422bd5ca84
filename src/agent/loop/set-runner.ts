import type { DesiredSet } from "../../contracts/agent-protocol/desired-set.ts";
import type { UnsupportedSet } from "../../contracts/agent-protocol/read-desired-sets.ts";
import { linkAbort } from "../../lib/async/abort.ts";
import { callBackoff, computeBackoffMs } from "../base/backoff.ts";
import type { ObservedLocalSet } from "../model/local-set.ts";
import { readClock } from "../base/clock.ts";
import { probeContainers } from "./probe-containers.ts";
import {
  isPointless,
  needsSameImages,
  isStarting,
  logUndoneStep,
  runStep,
  type Step,
} from "./run-step.ts";
import { fingerprint } from "../model/fingerprint.ts";
import { noteFailedRuns } from "../set/container-history.ts";
import { toPersistedHistory, restoreHistory, startsJob } from "../set/persisted-history.ts";
import { reconcile, reconcileFenced, type Verdict } from "../set/reconcile.ts";
import { reportSet } from "../set/report-set.ts";
import {
  enterGeneration,
  newSetHistory,
  noteAnswered,
  noteAvailable,
  noteFailure,
  noteObserved,
  noteRunning,
  noteSuccess,
  type SetHistory,
  computeSpecKey,
} from "../set/set-history.ts";
import { notePrepared } from "../set/preparations.ts";
import { noteResized } from "../set/resize-history.ts";
import { noteRootfs } from "../set/set-rootfs.ts";
import type { SetRunnerContext } from "./set-runner-context.ts";
import { isBoundToHost } from "../model/bound-to-host.ts";
import { advanceState } from "../model/set-state.ts";
import { toStepFailure, type StepKind, type StepFailure } from "../model/step-failure.ts";
import { judgeUnsupported } from "../set/unsupported-sets.ts";

/**
 * Reconciles one set: observes, decides, takes one step, and repeats. Its steps never overlap;
 * steps of different sets overlap within the host's limits. Desired changes, Docker's events, its
 * own timers and the periodic resync wake it.
 */
export class SetRunner {
  readonly #setId: string;
  readonly #context: SetRunnerContext;
  readonly #history: SetHistory = newSetHistory();
  /** The persisted history as JSON. */
  #persistedText: string | undefined;
  #desired: DesiredSet | undefined;
  /** A newer order for the set, whose description this agent cannot read. */
  #unsupported: UnsupportedSet | undefined;
  #observed: ObservedLocalSet | undefined;
  /** The observation may be outdated: observe before deciding. */
  #isStale = true;
  /**
   * Incremented by each observation, and by each change that makes an observation in flight
   * outdated.
   */
  #epoch = 0;
  #observationsFailedInRow = 0;
  #isAwake = false;
  #loop: Promise<void> | undefined;
  #step: { action: Step; abort: AbortController } | undefined;
  #cancelTimer: (() => void) | undefined;

  /** `isAbsent`: a resync has shown that nothing of the set exists here. */
  constructor(setId: string, context: SetRunnerContext, { isAbsent }: { isAbsent: boolean }) {
    this.#setId = setId;
    this.#context = context;
    this.#isStale = !isAbsent;
    const persisted = context.persistedHistory(setId);
    restoreHistory(this.#history, persisted, context.stopsAtRootfs);
    this.#persistedText = persisted && JSON.stringify(persisted);
  }

  /**
   * No work is in progress or due. The last observation is current, except for foreign changes of
   * the set.
   */
  get isIdle(): boolean {
    return this.#loop === undefined && !this.#isStale;
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
    this.#cancelTimer?.();
    await this.#loop;
  }

  /**
   * Sets the desired state; undefined if the control plane does not name the set. Aborts a step
   * that is now pointless, such as an image pull for a deleted set. `unsupported` is a newer order
   * that the agent cannot read.
   */
  setDesired(desired: DesiredSet | undefined, unsupported?: UnsupportedSet): void {
    if (desired && this.#desired && desired.generation < this.#desired.generation) return;
    const isReplaced = !needsSameImages(this.#desired, desired);
    this.#desired = desired;
    this.#unsupported = unsupported;
    if (desired) {
      enterGeneration(this.#history, desired, (specKey) =>
        this.#context.hasRunBefore(this.#setId, specKey),
      );
      noteObserved(this.#history, desired, this.#observed, readClock(this.#context.clock));
      this.#persist();
    }
    const isWanted = (unsupported ?? desired)?.desired === "running";
    if (isPointless(this.#step?.action.kind, { isWanted, isReplaced })) this.#abortStep();
    this.wake();
  }

  /** Called when no set of the host may run any longer. */
  onFenced(): void {
    const kind = this.#step?.action.kind;
    if (kind === "probe" || isStarting(kind)) this.#abortStep();
    this.wake();
  }

  /** Called when anyone changed something of the set. */
  onChange(): void {
    this.#isStale = true;
    this.#epoch++;
    if (this.#step?.action.kind === "probe") this.#abortStep();
    this.wake();
  }

  /** Called when the daemon answers again. Changes while it was unreachable caused no event. */
  onAvailable(): void {
    noteAvailable(this.#history);
    this.#observationsFailedInRow = 0;
    this.onChange();
  }

  /**
   * Receives the result of a resync that began when this runner was idle at `epoch`. Returns true
   * if the observation differs from the last one, so an event was lost. A runner that has changed
   * since then ignores the result.
   */
  onResync(observed: ObservedLocalSet | undefined, epoch: number): boolean {
    if (!this.isIdle || this.#epoch !== epoch) return false;
    const hasChanged = fingerprint(observed) !== fingerprint(this.#observed);
    this.#setObserved(observed);
    if (hasChanged) this.wake();
    return hasChanged;
  }

  /** Adopts a set that a resync found, in a new runner. */
  adopt(observed: ObservedLocalSet): void {
    this.#setObserved(observed);
    this.wake();
  }

  /**
   * Receives the bytes that this host's containers have written to their root file systems, by
   * Docker id.
   */
  onRootfsMeasured(usedBytes: ReadonlyMap<string, number>): void {
    // A step may be replacing the observed containers.
    if (!this.#desired || (this.#step && this.#step.action.kind !== "probe")) return;
    const { stopsAtRootfs, clock } = this.#context;
    const subject = { desired: this.#desired, observed: this.#observed };
    const hasChanged = noteRootfs(this.#history, subject, {
      usedBytes,
      stops: stopsAtRootfs,
      wallMs: clock.wallMs(),
    });
    if (!hasChanged) return;
    this.#persist();
    this.wake();
  }

  #persist(): void {
    if (!this.#desired) return;
    const persisted = toPersistedHistory(this.#history, this.#desired.template);
    const text = persisted && JSON.stringify(persisted);
    if (text === this.#persistedText) return;
    this.#persistedText = text;
    this.#context.onPersistedHistory(this.#setId, persisted);
  }

  #abortStep(): void {
    this.#step?.abort.abort(new Error("the step is obsolete"));
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

  #sleepUntil(atMs: number): void {
    const { clock } = this.#context;
    this.#cancelTimer = clock.after(atMs - clock.nowMs(), () => this.wake());
  }

  async #run(): Promise<void> {
    // Other events of the same moment may follow.
    await Promise.resolve();
    while (this.#isAwake && !this.#context.stopping.aborted) {
      this.#isAwake = false;
      this.#cancelTimer?.();
      if (this.#isStale && !(await this.#observe())) return;
      await this.#advance();
    }
  }

  async #observe(): Promise<boolean> {
    const { port, limits, cancelled, clock, random, log } = this.#context;
    this.#isStale = false;
    try {
      const observe = () => port.observeSet(this.#setId, cancelled);
      this.#setObserved(await limits.observations(this.#tenant, observe));
      this.#observationsFailedInRow = 0;
      return true;
    } catch (error) {
      this.#isStale = true;
      if (cancelled.aborted) return false;
      this.#observationsFailedInRow++;
      log.warn({ err: error, setId: this.#setId }, "cannot observe the set");
      this.#noteUnseen(error);
      const waitMs = computeBackoffMs(callBackoff, this.#observationsFailedInRow, random());
      this.#sleepUntil(clock.nowMs() + waitMs);
      return false;
    }
  }

  /**
   * Counts an observation that failed as a failed start, if the set has not run yet. For other sets
   * it changes nothing.
   */
  #noteUnseen(error: unknown): void {
    const desired = this.#desired;
    if (this.#unsupported || desired?.desired !== "running") return;
    if (this.#history.hasRun || this.#history.gaveUp) return;
    this.#noteFailure(toStepFailure(error, "observe"), "observe");
    const nowMs = this.#context.clock.nowMs();
    this.#report(desired, reconcile(desired, this.#observed, this.#history, nowMs));
  }

  #setObserved(observed: ObservedLocalSet | undefined): void {
    this.#isStale = false;
    this.#epoch++;
    this.#observed = observed;
    if (this.#desired) {
      noteObserved(this.#history, this.#desired, observed, readClock(this.#context.clock));
      this.#persist();
    }
  }

  async #advance(): Promise<void> {
    const desired = this.#desired;
    const { canRemove, clock, isFenced, mayStart } = this.#context;
    const nowMs = clock.nowMs();
    if (isFenced()) return this.#act(reconcileFenced(this.#observed, this.#history, nowMs));
    const isKnown = (desired ?? this.#unsupported) !== undefined;
    if (!isKnown && this.#observed && !canRemove(this.#setId)) return; // a found set without orders
    const isUp = this.#observed?.infra?.state === "running";
    if (isKnown && !isUp && !mayStart(this.#setId)) return;
    if (this.#unsupported) return this.#act(this.#judgeUnsupported(this.#unsupported));
    const verdict = reconcile(desired, this.#observed, this.#history, nowMs);
    if (desired) this.#report(desired, verdict);
    return this.#act(verdict);
  }

  #judgeUnsupported(order: UnsupportedSet): Verdict {
    const { onReport, hasRunBefore, clock } = this.#context;
    const { verdict, report } = judgeUnsupported(
      { order, known: this.#desired, observed: this.#observed, history: this.#history },
      { nowMs: clock.nowMs(), isSeen: !this.#isStale, hasRun: hasRunBefore(this.#setId) },
    );
    onReport(report);
    return verdict;
  }

  async #act({ action }: Verdict): Promise<void> {
    if (action.kind === "none") {
      const isKnown = (this.#desired ?? this.#unsupported) !== undefined;
      if (!isKnown && !this.#observed) this.#context.onObsolete(this.#setId);
      return;
    }
    if (action.kind === "wait") this.#sleepUntil(action.untilMs);
    else await this.#takeStep(action);
  }

  #report(desired: DesiredSet, verdict: Verdict): void {
    const history = this.#history;
    if (verdict.state === "running" && !history.hasRun) {
      noteRunning(history);
      this.#context.onRan(this.#setId, computeSpecKey(desired));
      verdict.reason = null;
    }
    history.state = advanceState(history.state, verdict.state);
    this.#context.onReport(
      reportSet(desired, this.#observed, history, {
        state: history.state,
        verdict,
        isSeen: !this.#isStale,
      }),
    );
  }

  async #takeStep(action: Step): Promise<void> {
    const { clock, cancelled, log } = this.#context;
    const desired = this.#desired;
    const { controller: abort, unlink } = linkAbort(cancelled);
    this.#step = { action, abort };
    const startedAtMs = clock.nowMs();
    const fields = { setId: this.#setId, generation: desired?.generation, action: action.kind };
    const durationMs = () => Math.round(clock.nowMs() - startedAtMs);
    if (action.kind === "probe" && Number.isFinite(action.untilMs)) {
      const leftMs = action.untilMs - startedAtMs;
      this.#cancelTimer = clock.after(leftMs, () => this.#abortStep());
    }
    try {
      if (action.kind === "probe") {
        if (!desired) return;
        const probed = { desired, observed: this.#observed, history: this.#history };
        await probeContainers(this.#context, probed, action.containers, abort.signal);
        return;
      }
      // Otherwise the next agent might not know that this job has run.
      if (desired && action.kind === "start" && startsJob(desired.template, action.containers))
        await this.#context.persistedHistorySettled();
      const observed = this.#observed;
      const subject = { setId: this.#setId, tenant: this.#tenant, desired, observed };
      await runStep(this.#context, subject, action, abort.signal);
      this.#noteDone(action, desired);
      log.info({ ...fields, outcome: "done", durationMs: durationMs() }, "set action");
    } catch (error) {
      const failure = abort.signal.aborted ? undefined : toStepFailure(error, action.kind);
      if (failure) this.#noteFailure(failure, action.kind);
      logUndoneStep(log, { ...fields, durationMs: durationMs() }, error, failure);
    } finally {
      unlink();
      this.#step = undefined;
      this.#isAwake = true;
      if (action.kind !== "probe") {
        this.#isStale = true;
        this.#epoch++;
      }
    }
  }

  /** @param desired the desired state when the step began */
  #noteDone(action: Exclude<Step, { kind: "probe" }>, desired: DesiredSet | undefined): void {
    const history = this.#history;
    noteAnswered(history);
    if (action.kind === "resize") {
      this.#context.onResized();
      // The size of a newer generation is untried and must not wait for this backoff.
      if (desired?.generation === this.#desired?.generation) this.#noteResized(undefined);
      return;
    }
    if (action.kind === "prepare") notePrepared(history, this.#context.clock.nowMs());
    if (action.kind === "fail") {
      noteFailedRuns(history, this.#observed, action.containers);
      const { reason, temporary } = action;
      this.#noteFailure({ reason, temporary, isUnavailable: false }, action.kind);
      return;
    }
    // Before a set has run, only a successful start resets the failed attempts.
    if (history.hasRun || action.kind === "stop-all" || action.kind === "remove")
      noteSuccess(history);
  }

  #noteResized(failure: StepFailure | undefined): void {
    const { clock, random } = this.#context;
    noteResized(this.#history, failure, { ...readClock(clock), random: random() });
  }

  #noteFailure(failure: StepFailure, during: StepKind): void {
    if (during === "resize") return this.#noteResized(failure);
    const { clock, random, hasRunBefore } = this.#context;
    const isStarting = during !== "stop-all" && during !== "remove";
    const hasRun = () => hasRunBefore(this.#setId);
    const mayGiveUp = isStarting && !isBoundToHost(this.#desired, this.#observed, hasRun);
    noteFailure(this.#history, failure, { ...readClock(clock), mayGiveUp, random: random() });
  }
}
