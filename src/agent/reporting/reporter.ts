import type { ObservedSet } from "../../contracts/agent-protocol/observed-set.ts";
import type { Sync } from "../../contracts/agent-protocol/sync.ts";
import type { Log } from "../../lib/log.ts";
import { isAborted, runAbortable } from "../../lib/async/abort.ts";
import type { AgentLimits } from "../base/agent-limits.ts";
import { type Clock, createDeadline, sleep } from "../base/clock.ts";
import { waitBeforeRetry } from "./retry-delay.ts";
import type { Housekeeping } from "../housekeeping/housekeeping.ts";
import type { SyncAnswer } from "../ports/control-plane.ts";
import type { MachinePort } from "../ports/machine-port.ts";
import type { SetPort } from "../ports/set-port.ts";
import { ReportBounds } from "./report-bounds.ts";
import { type ReportBatch, ReportQueue } from "./report-queue.ts";
import { reportableImages, reportableVolumes } from "./reportable.ts";
import { CapabilityReports } from "./capability-reports.ts";
import { ClockSkew } from "./clock-skew.ts";
import { UsageReports, type UsageReportsOptions } from "./usage-reports.ts";
import { DatabaseChanges } from "./database-changes.ts";
import { Wakeup } from "../base/wakeup.ts";

const noTest = { docker: null, selfTest: null };

export interface ReporterOptions {
  machine: MachinePort;
  port: Pick<SetPort, "memoryUsage">;
  hostAddress: () => string | null;
  housekeeping: Housekeeping;
  clock: Clock;
  log: Log;
  /** In [0, 1). */
  random: () => number;
  limits: AgentLimits;
  sync: (parts: Partial<Sync>, signal: AbortSignal) => Promise<SyncAnswer>;
  onAnswer: (answer: SyncAnswer) => Promise<unknown>;
  fault: UsageReportsOptions["fault"];
  /** The shortest pause after a failed sync. */
  pauseMs: (random: number) => number;
  /**
   * Called when the control plane knows that this generation of a set is absent. Returns true if
   * the set is no longer desired.
   */
  onAbsent: (setId: string, generation: number) => boolean;
}

/**
 * Reports set changes immediately, and machine usage periodically. The reporter never waits for
 * Docker, so it also reports a hung daemon.
 */
export class Reporter {
  readonly usage: UsageReports;
  readonly clockSkew: ClockSkew;
  readonly capabilities: CapabilityReports;
  readonly #options: ReporterOptions;
  readonly #queue: ReportQueue;
  readonly #bounds: ReportBounds;
  readonly #wakeup: Wakeup;
  readonly #databaseChanges: DatabaseChanges;
  #sentImages: string[] | undefined;

  constructor(options: ReporterOptions) {
    this.#options = options;
    const { machine, port, housekeeping, clock, log, limits } = options;
    this.#queue = new ReportQueue(clock);
    this.#bounds = new ReportBounds(clock, log);
    this.#wakeup = new Wakeup(clock);
    this.#databaseChanges = new DatabaseChanges(clock, options.random);
    this.clockSkew = new ClockSkew(clock, log);
    this.capabilities = new CapabilityReports({
      tested: () => housekeeping.selfTest?.tested ?? noTest,
      setsMax: () => this.usage.setsMax,
      otherHostVolumes: () => (housekeeping.volumes ? housekeeping.volumes.otherHosts : []),
      hostAddress: options.hostAddress,
      publishesPorts: () => housekeeping.networkDriver?.publishesPorts ?? false,
      knowsGateways: () => housekeeping.networkDriver?.knowsGateways ?? true,
      tunnelAddress: () => housekeeping.networkDriver?.tunnelAddress ?? null,
      hasNetworks: () => {
        const { networkDriver } = housekeeping;
        return networkDriver?.isKnown === false ? undefined : (networkDriver?.hasNetworks ?? false);
      },
      hasNames: () => housekeeping.networkDriver?.hasNames ?? false,
      onRequested: () => this.#wakeup.notify(),
    });
    this.usage = new UsageReports({
      machine,
      port,
      disk: () => housekeeping.disk?.usage,
      volumeExcessBytes: () => housekeeping.volumes?.excessBytes ?? 0,
      hostReason: () => housekeeping.networkDriver?.reason ?? this.clockSkew.reason,
      fault: options.fault,
      clock,
      log,
      intervalMs: limits.usageIntervalMs,
      onRepeat: () => this.#wakeup.notify(),
    });
  }

  /** Wakes the loop for a change other than that of a set. */
  wake(): void {
    this.#wakeup.notify();
  }

  /** Queues a report. Returns true if it is new. */
  put(report: ObservedSet): boolean {
    const hasChanged = this.#queue.put(report);
    if (hasChanged) this.#wakeup.notify();
    return hasChanged;
  }

  forceResend(setIds: readonly string[]): void {
    for (const setId of setIds) this.#queue.forceResend(setId);
  }

  resendUnconfirmed(): void {
    this.#queue.resendUnconfirmed();
    if (!this.#queue.isEmpty) this.#wakeup.notify();
  }

  forget(setId: string): void {
    this.#queue.forget(setId);
  }

  /** Call it with the epoch of each answer, after the arrival of its report is noted. */
  noteDatabase(epoch: string | undefined): void {
    this.#databaseChanges.note(epoch);
  }

  /** Runs until aborted. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, log, random, limits, onAnswer, pauseMs } = this.#options;
    let failuresInRow = 0;
    for (;;) {
      const waitMs = Math.min(this.usage.dueInMs, this.#databaseChanges.dueInMs);
      const isNotified = await this.#wakeup.wait(waitMs, signal);
      const isRepeated = this.#repeatIfDue();
      // The pull loop has sent the usage meanwhile.
      if (!isNotified && !isRepeated && !signal.aborted && this.usage.dueInMs > 0) continue;
      if (!signal.aborted) await sleep(clock, limits.coalesceMs, signal);
      if (signal.aborted) return;
      try {
        const answer = await this.#send(signal);
        failuresInRow = 0;
        await onAnswer(answer);
      } catch (error) {
        if (isAborted(signal)) return;
        failuresInRow++;
        this.#wakeup.notify();
        const retryOptions = { clock, log, random, loop: "report", pauseMs };
        await waitBeforeRetry(retryOptions, error, failuresInRow, signal);
      }
    }
  }

  /** Sends the remaining reports after the loop has ended, in one attempt. */
  async sendLast(): Promise<void> {
    if (this.#queue.isEmpty) return;
    const { clock, log, limits } = this.#options;
    const deadline = createDeadline(clock, limits.lastReportTimeoutMs, failLate);
    try {
      await runAbortable({ deadline }, (signal) => this.#send(signal));
    } catch (error) {
      log.warn({ err: error }, "final report failed");
    }
  }

  /** Repeats all reports if another database server took over. Returns whether it did. */
  #repeatIfDue(): boolean {
    if (!this.#databaseChanges.takeIfDue()) return false;
    this.#options.log.info({}, "another database server answers: all reports are sent again");
    this.#queue.resendAll();
    this.#sentImages = undefined;
    this.#options.housekeeping.volumes?.forceResend();
    return true;
  }

  async #send(signal: AbortSignal): Promise<SyncAnswer> {
    const { housekeeping, sync } = this.#options;
    const bounds = this.#bounds;
    const batch = this.#queue.take(bounds.reportsMax, bounds.charsMax);
    const hasSets = batch.reports.length > 0;
    const usage = bounds.isOnePart && hasSets ? null : await this.usage.takeIfDue();
    const mayAddLists = bounds.mayHaveLists && !(bounds.isOnePart && (hasSets || usage !== null));
    const images = this.#takeImages();
    const volumes = housekeeping.volumes?.takeChanges();
    const sendsImages = mayAddLists && images !== null;
    const sendsVolumes = mayAddLists && !(bounds.isOnePart && sendsImages) && volumes?.volumes;
    let answer: SyncAnswer;
    try {
      answer = await sync(
        {
          observed: batch.reports,
          usage,
          images: sendsImages ? reportableImages(images) : null,
          volumes: sendsVolumes ? reportableVolumes(sendsVolumes) : null,
        },
        signal,
      );
    } catch (error) {
      const hasLists = sendsImages || Boolean(sendsVolumes);
      bounds.noteFailed(error, { chars: batch.chars, hasLists, hasUsage: usage !== null });
      this.#queue.markUnconfirmed(batch);
      if (usage !== null) this.usage.repeat();
      throw error;
    }
    if (sendsImages) this.#sentImages = images;
    if (sendsVolumes) volumes.onArrived();
    const hasLeft =
      bounds.mayHaveLists && ((images && !sendsImages) || (volumes?.volumes && !sendsVolumes));
    if (hasLeft) this.#wakeup.notify();
    this.#noteArrived(batch);
    return answer;
  }

  /** The images, if they have changed since the last report. */
  #takeImages(): string[] | null {
    const { images } = this.#options.housekeeping.dockerHealth;
    return images === undefined || images === this.#sentImages ? null : images;
  }

  #noteArrived(batch: ReportBatch): void {
    this.#queue.acknowledge(batch);
    if (!this.#queue.isEmpty) this.#wakeup.notify();
    for (const { setId, generation, state } of batch.reports) {
      if (state === "absent" && this.#options.onAbsent(setId, generation)) this.forget(setId);
    }
  }
}

function failLate(): never {
  throw new Error("the agent stops");
}
