import type { ObservedSet, Sync, SyncResult } from "../contracts/agent-protocol/protocol.ts";
import type { Log } from "../lib/log.ts";
import { isAborted } from "./aborted.ts";
import type { AgentLimits } from "./agent-limits.ts";
import { type Clock, delay } from "./clock.ts";
import { standFailure } from "./failure-wait.ts";
import type { HostKeepers } from "./host-keepers.ts";
import type { MachinePort } from "./ports/machine-port.ts";
import type { SetPort } from "./ports/set-port.ts";
import { type ReportBatch, ReportQueue } from "./report-queue.ts";
import { reportableImages, reportableVolumes } from "./reportable.ts";
import { UsageReports } from "./usage-reports.ts";
import { Wakeup } from "./wakeup.ts";

/** One report carries at most so many sets, and what is told of them has at most so many characters: the API takes 8 MiB. */
const REPORTS_PER_SYNC_MAX = 1_000;
const REPORT_CHARS_PER_SYNC_MAX = 2 ** 20;

export interface ReporterOptions {
  machine: MachinePort;
  port: Pick<SetPort, "memoryUse">;
  keepers: HostKeepers;
  clock: Clock;
  log: Log;
  /** In [0, 1). */
  random: () => number;
  limits: AgentLimits;
  sync: (parts: Partial<Sync>, signal: AbortSignal) => Promise<SyncResult>;
  onAnswer: (answer: SyncResult) => Promise<unknown>;
  /** It has arrived that nothing is left of this generation of a set. True: nobody asks for the set any more, either. */
  onAbsent: (setId: string, generation: number) => boolean;
}

/**
 * Says what is: at once when it changes, and from time to time what the machine uses. Nothing here waits for Docker, so that
 * a daemon that hangs is reported like everything else.
 */
export class Reporter {
  readonly usage: UsageReports;
  readonly #options: ReporterOptions;
  readonly #queue: ReportQueue;
  readonly #bell: Wakeup;
  #sentImages: string[] | undefined;

  constructor(options: ReporterOptions) {
    this.#options = options;
    const { machine, port, keepers, clock, log, limits } = options;
    this.#queue = new ReportQueue(clock);
    this.#bell = new Wakeup(clock);
    this.usage = new UsageReports({
      machine,
      port,
      disk: () => keepers.disk?.use,
      clock,
      log,
      intervalMs: limits.usageIntervalMs,
      onRepeat: () => this.#bell.ring(),
    });
  }

  /** There is something new to say, other than of a set. */
  ring(): void {
    this.#bell.ring();
  }

  /** True when that is news. */
  put(report: ObservedSet): boolean {
    const isNews = this.#queue.put(report);
    if (isNews) this.#bell.ring();
    return isNews;
  }

  expectAgain(setIds: readonly string[]): void {
    for (const setId of setIds) this.#queue.expectAgain(setId);
  }

  repeatDoubtful(): void {
    this.#queue.repeatDoubtful();
    if (!this.#queue.isEmpty) this.#bell.ring();
  }

  forget(setId: string): void {
    this.#queue.forget(setId);
  }

  /** Until aborted. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, log, random, limits, onAnswer } = this.#options;
    let failuresInRow = 0;
    for (;;) {
      const isRung = await this.#bell.wait(this.usage.dueInMs, signal);
      // The other loop's sync took the usage along meanwhile.
      if (!isRung && !signal.aborted && this.usage.dueInMs > 0) continue;
      if (!signal.aborted) await delay(clock, limits.coalesceMs, signal);
      if (signal.aborted) return;
      try {
        const answer = await this.#send(signal);
        failuresInRow = 0;
        await onAnswer(answer);
      } catch (error) {
        if (isAborted(signal)) return;
        failuresInRow++;
        this.#bell.ring();
        await standFailure({ clock, log, random, loop: "report" }, error, failuresInRow, signal);
      }
    }
  }

  /** What is left to say when the loop has ended, in one attempt. */
  async sendLast(): Promise<void> {
    if (this.#queue.isEmpty) return;
    const { clock, log, limits } = this.#options;
    const controller = new AbortController();
    const cancel = clock.after(limits.lastReportTimeoutMs, () =>
      controller.abort(new Error("the agent stops")),
    );
    try {
      await this.#send(controller.signal);
    } catch (error) {
      log.warn({ err: error }, "last report not sent");
    } finally {
      cancel();
    }
  }

  async #send(signal: AbortSignal): Promise<SyncResult> {
    const { keepers, sync } = this.#options;
    const batch = this.#queue.take(REPORTS_PER_SYNC_MAX, REPORT_CHARS_PER_SYNC_MAX);
    const usage = await this.usage.takeIfDue();
    const { images } = keepers.monitor;
    const hasNewImages = images !== undefined && images !== this.#sentImages;
    const volumes = keepers.volumes?.takeNews();
    let answer: SyncResult;
    try {
      answer = await sync(
        {
          observed: batch.reports,
          usage,
          images: hasNewImages ? reportableImages(images) : null,
          volumes: volumes?.volumes ? reportableVolumes(volumes.volumes) : null,
        },
        signal,
      );
    } catch (error) {
      this.#queue.doubt(batch);
      if (usage !== null) this.usage.repeat();
      throw error;
    }
    if (hasNewImages) this.#sentImages = images;
    volumes?.onArrived();
    this.#noteArrived(batch);
    return answer;
  }

  #noteArrived(batch: ReportBatch): void {
    this.#queue.acknowledge(batch);
    if (!this.#queue.isEmpty) this.#bell.ring();
    for (const { setId, generation, state } of batch.reports) {
      if (state === "absent" && this.#options.onAbsent(setId, generation)) this.forget(setId);
    }
  }
}
