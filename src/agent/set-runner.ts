import type { DesiredSet, ObservedSet } from "../contracts/agent-protocol/protocol.ts";
import type { Log } from "../lib/log.ts";
import type { Clock } from "./clock.ts";
import type { ConcurrencyLimit } from "../lib/async/concurrency-limit.ts";
import type { ObservedLocalSet, SetPort } from "./ports/set-port.ts";
import { probeContainers } from "./probe-containers.ts";
import { doStep, type Step } from "./do-step.ts";
import { fingerprint } from "./fingerprint.ts";
import { noteFailedLives } from "./container-memory.ts";
import { type KeptSet, keptOf, restoreKept } from "./kept-set.ts";
import { reconcile, type Verdict } from "./reconcile.ts";
import { reportSet } from "./report-set.ts";
import {
  enterGeneration,
  newSetMemory,
  noteAnswered,
  noteAvailable,
  noteFailure,
  noteObserved,
  noteRunning,
  noteSuccess,
  type SetMemory,
  specKeyOf,
} from "./set-memory.ts";
import { noteResized } from "./resize-memory.ts";
import { noteRootfs } from "./set-rootfs.ts";
import { advanceState } from "./set-state.ts";
import { failureOf, type StepKind, type StepFailure } from "./step-failure.ts";

/** How long to wait after an observation that failed, doubling from the one to the other. */
const OBSERVE_RETRY_MS_MIN = 500;
const OBSERVE_RETRY_MS_MAX = 30_000;

/** What the runners of a host share. */
export interface SetRunnerContext {
  port: SetPort;
  clock: Clock;
  /** In [0, 1). */
  random: () => number;
  log: Log;
  /** How many steps, and how many probes and observations, the host does at a time. */
  stepLimit: ConcurrencyLimit;
  lookLimit: ConcurrencyLimit;
  /**
   * Whether sets that do not run may be started. Not before the control plane was heard: while this machine was down, others may have
   * been started in their place (I3).
   */
  mayRevive: () => boolean;
  /** Whether sets that the control plane does not name may be removed (I12). */
  canRemoveUnknown: () => boolean;
  /** Whether sets are stopped that write more to their root file systems than they are given. */
  stopsAtRootfs: boolean;
  /** What the state file knows of specs that have run; without a key, of any of the set. */
  hasRunBefore: (setId: string, specKey?: string) => boolean;
  onRan: (setId: string, specKey: string) => void;
  /** What else the state file knows of a set, and what it should know of it from now on. */
  keptSet: (setId: string) => KeptSet | undefined;
  onKept: (setId: string, kept: KeptSet | undefined) => void;
  onReport: (report: ObservedSet) => void;
  /** The set has other limits from now on. */
  onResized: () => void;
  /** Nothing of a set that nobody asks for is there: the runner is of no use any more. */
  onGone: (setId: string) => void;
  /** Aborted: no step begins any more, those under way go on. */
  stopping: AbortSignal;
  /** Aborted: steps under way are broken off. */
  cancelled: AbortSignal;
}

/**
 * Brings one set to what it should be and keeps it there: look, decide, take one step, again. Its steps never overlap;
 * those of different sets do, up to the host's limits. Everything that may matter wakes it: news of what is desired,
 * events of Docker, its own timers, the periodic look at everything.
 */
export class SetRunner {
  readonly #setId: string;
  readonly #context: SetRunnerContext;
  readonly #memory: SetMemory = newSetMemory();
  /** As JSON: what the state file knows. */
  #keptText: string | undefined;
  #desired: DesiredSet | undefined;
  #observed: ObservedLocalSet | undefined;
  /** What is known may be old: look before deciding. */
  #isStale = true;
  /** Raised by every look, and by everything that makes a look under way an old one. */
  #epoch = 0;
  #looksFailedInRow = 0;
  #isAwake = false;
  #loop: Promise<void> | undefined;
  #step: { action: Step; abort: AbortController } | undefined;
  #cancelTimer: (() => void) | undefined;

  /** `isAbsent`: a look at the whole host has shown already that nothing of the set is there. */
  constructor(setId: string, context: SetRunnerContext, { isAbsent }: { isAbsent: boolean }) {
    this.#setId = setId;
    this.#context = context;
    this.#isStale = !isAbsent;
    const kept = context.keptSet(setId);
    restoreKept(this.#memory, kept, context.stopsAtRootfs);
    this.#keptText = kept && JSON.stringify(kept);
  }

  /** Nothing is under way, nor about to be: what was seen last is what is there, unless somebody else changed it. */
  get isQuiet(): boolean {
    return this.#loop === undefined && !this.#isStale;
  }

  get epoch(): number {
    return this.#epoch;
  }

  /** Resolves once nothing is under way. Call it after `stopping` was aborted. */
  async settled(): Promise<void> {
    this.#cancelTimer?.();
    await this.#loop;
  }

  /**
   * What the set should be from now on; undefined: the control plane does not name it. A step that has lost its sense
   * by that (an image is pulled for a set that is to go) is broken off.
   */
  setDesired(desired: DesiredSet | undefined): void {
    if (desired && this.#desired && desired.generation < this.#desired.generation) return;
    this.#desired = desired;
    if (desired) {
      enterGeneration(this.#memory, desired, (specKey) =>
        this.#context.hasRunBefore(this.#setId, specKey),
      );
      noteObserved(this.#memory, desired, this.#observed, this.#context.clock.nowMs());
      this.#keep();
    }
    const kind = this.#step?.action.kind;
    const isSenseless = kind === "prepare" || kind === "start";
    if (kind === "probe" || (isSenseless && desired?.desired !== "running")) this.#breakOff();
    this.wake();
  }

  /** Something of the set changed, by whomever. */
  onChange(): void {
    this.#isStale = true;
    this.#epoch++;
    if (this.#step?.action.kind === "probe") this.#breakOff();
    this.wake();
  }

  /** The daemon answers again after it did not: whatever happened meanwhile, no event told it. */
  onAvailable(): void {
    noteAvailable(this.#memory);
    this.#looksFailedInRow = 0;
    this.onChange();
  }

  /**
   * A look at the whole host, asked for when this runner was quiet at `epoch`. True when it shows something else than
   * was known: an event was lost. What has happened since is newer, and the look is not for it.
   */
  onLook(observed: ObservedLocalSet | undefined, epoch: number): boolean {
    if (!this.isQuiet || this.#epoch !== epoch) return false;
    const isNews = fingerprint(observed) !== fingerprint(this.#observed);
    this.#see(observed);
    if (isNews) this.wake();
    return isNews;
  }

  /** What a look at the whole host has found, for a runner that was made for it just now. */
  adopt(observed: ObservedLocalSet): void {
    this.#see(observed);
    this.wake();
  }

  /** What containers of this host have written to their root file systems, by Docker id. */
  onRootfsMeasured(usedBytes: ReadonlyMap<string, number>): void {
    // What was seen last may be on its way out.
    if (!this.#desired || (this.#step && this.#step.action.kind !== "probe")) return;
    const { stopsAtRootfs, clock } = this.#context;
    const about = { desired: this.#desired, observed: this.#observed };
    const isNews = noteRootfs(this.#memory, about, {
      usedBytes,
      stops: stopsAtRootfs,
      nowMs: clock.nowMs(),
    });
    if (!isNews) return;
    this.#keep();
    this.wake();
  }

  #keep(): void {
    const kept = keptOf(this.#memory);
    const text = kept && JSON.stringify(kept);
    if (text === this.#keptText) return;
    this.#keptText = text;
    this.#context.onKept(this.#setId, kept);
  }

  #breakOff(): void {
    this.#step?.abort.abort(new Error("there is something newer to do"));
  }

  /** There may be something to do. */
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
    // Whatever woke us may not be the only thing that has just happened.
    await Promise.resolve();
    while (this.#isAwake && !this.#context.stopping.aborted) {
      this.#isAwake = false;
      this.#cancelTimer?.();
      const isKnown = this.#desired !== undefined || this.#context.canRemoveUnknown();
      if (!isKnown) return;
      if (this.#isStale && !(await this.#look())) return;
      await this.#advance();
    }
  }

  async #look(): Promise<boolean> {
    const { port, lookLimit, cancelled, clock, log } = this.#context;
    this.#isStale = false;
    try {
      this.#see(await lookLimit(() => port.observeSet(this.#setId, cancelled)));
      this.#looksFailedInRow = 0;
      return true;
    } catch (error) {
      this.#isStale = true;
      if (cancelled.aborted) return false;
      this.#looksFailedInRow++;
      log.warn({ err: error, setId: this.#setId }, "set not observed");
      this.#noteUnseen(error);
      const retryMs = OBSERVE_RETRY_MS_MIN * 2 ** Math.min(this.#looksFailedInRow - 1, 10);
      this.#sleepUntil(clock.nowMs() + Math.min(retryMs, OBSERVE_RETRY_MS_MAX));
      return false;
    }
  }

  /** A set that has not run yet and cannot even be looked at fails to start; of what has run, nothing new is known. */
  #noteUnseen(error: unknown): void {
    const desired = this.#desired;
    if (desired?.desired !== "running" || this.#memory.hasRun || this.#memory.gaveUp) return;
    this.#noteFailure(failureOf(error, "observe"), "observe");
    const nowMs = this.#context.clock.nowMs();
    this.#report(desired, reconcile(desired, this.#observed, this.#memory, nowMs));
  }

  #see(observed: ObservedLocalSet | undefined): void {
    this.#isStale = false;
    this.#epoch++;
    this.#observed = observed;
    if (this.#desired) {
      noteObserved(this.#memory, this.#desired, observed, this.#context.clock.nowMs());
      this.#keep();
    }
  }

  async #advance(): Promise<void> {
    const desired = this.#desired;
    if (this.#observed?.infra?.state !== "running" && !this.#context.mayRevive()) return;
    const nowMs = this.#context.clock.nowMs();
    const verdict = reconcile(desired, this.#observed, this.#memory, nowMs);
    if (desired) this.#report(desired, verdict);
    const { action } = verdict;
    if (action.kind === "none") {
      if (!desired && !this.#observed) this.#context.onGone(this.#setId);
      return;
    }
    if (action.kind === "wait") {
      this.#sleepUntil(action.untilMs);
      return;
    }
    await this.#take(action);
  }

  #report(desired: DesiredSet, verdict: Verdict): void {
    const memory = this.#memory;
    if (verdict.state === "running" && !memory.hasRun) {
      noteRunning(memory);
      this.#context.onRan(this.#setId, specKeyOf(desired));
      verdict.reason = null;
    }
    memory.state = advanceState(memory.state, verdict.state);
    this.#context.onReport(
      reportSet(desired, this.#observed, memory, {
        state: memory.state,
        verdict,
        isSeen: !this.#isStale,
      }),
    );
  }

  async #take(action: Step): Promise<void> {
    const { port, clock, cancelled, log, stepLimit, lookLimit } = this.#context;
    const desired = this.#desired;
    const abort = new AbortController();
    const onCancel = () => abort.abort(new Error("the agent stops"));
    cancelled.addEventListener("abort", onCancel, { once: true });
    this.#step = { action, abort };
    const startedAtMs = clock.nowMs();
    const limit = action.kind === "probe" ? lookLimit : stepLimit;
    const fields = { setId: this.#setId, generation: desired?.generation, action: action.kind };
    const durationMs = () => clock.nowMs() - startedAtMs;
    if (action.kind === "probe" && Number.isFinite(action.untilMs)) {
      const leftMs = action.untilMs - startedAtMs;
      this.#cancelTimer = clock.after(leftMs, () => this.#breakOff());
    }
    try {
      await limit(async () => {
        // What was decided before the wait for a place may be overtaken.
        if (abort.signal.aborted || this.#context.stopping.aborted) return;
        if (action.kind !== "probe") await doStep(port, this.#setId, action, desired, abort.signal);
        else if (desired) {
          const about = { desired, observed: this.#observed, memory: this.#memory };
          await probeContainers(this.#context, about, action.containers, abort.signal);
        }
      });
      if (action.kind === "probe") return;
      this.#noteDone(action, desired);
      log.info({ ...fields, outcome: "done", durationMs: durationMs() }, "set action");
    } catch (error) {
      if (abort.signal.aborted) {
        log.debug({ ...fields, outcome: "broken off", durationMs: durationMs() }, "set action");
      } else {
        const failure = failureOf(error, action.kind);
        this.#noteFailure(failure, action.kind);
        log.warn(
          {
            ...fields,
            outcome: "failed",
            durationMs: durationMs(),
            code: failure.reason.code,
            err: error,
          },
          "set action",
        );
      }
    } finally {
      cancelled.removeEventListener("abort", onCancel);
      this.#step = undefined;
      this.#isAwake = true;
      if (action.kind !== "probe") {
        this.#isStale = true;
        this.#epoch++;
      }
    }
  }

  /** @param desired what the set was to be when the step began */
  #noteDone(action: Exclude<Step, { kind: "probe" }>, desired: DesiredSet | undefined): void {
    const memory = this.#memory;
    noteAnswered(memory);
    if (action.kind === "resize") {
      this.#context.onResized();
      // The size of a newer generation is not tried yet, and must not wait for the backoff of this one.
      if (desired?.generation === this.#desired?.generation) this.#noteResized(undefined);
      return;
    }
    if (action.kind === "fail") {
      noteFailedLives(memory, this.#observed, action.containers);
      const { reason, temporary } = action;
      this.#noteFailure({ reason, temporary, isUnavailable: false }, action.kind);
      return;
    }
    // Before a set has run, only running makes up for failed attempts.
    if (memory.hasRun || action.kind === "stop-all" || action.kind === "remove")
      noteSuccess(memory);
  }

  #noteResized(failure: StepFailure | undefined): void {
    const { clock, random } = this.#context;
    noteResized(this.#memory, failure, { nowMs: clock.nowMs(), random: random() });
  }

  #noteFailure(failure: StepFailure, during: StepKind): void {
    if (during === "resize") return this.#noteResized(failure);
    const { clock, random } = this.#context;
    const isStarting = during !== "stop-all" && during !== "remove";
    const mayGiveUp = isStarting && !this.#isBound();
    noteFailure(this.#memory, failure, { mayGiveUp, nowMs: clock.nowMs(), random: random() });
  }

  /** It has a volume here, and elsewhere would begin with an empty one: it is tried here until somebody moves it. */
  #isBound(): boolean {
    if (!this.#desired?.template.volume) return false;
    return (
      this.#desired.restoreVolumeId !== null ||
      (this.#observed?.volumeBytes ?? 0) > 0 ||
      this.#context.hasRunBefore(this.#setId)
    );
  }
}
