import type { Log } from "../../lib/log.ts";
import { isAborted } from "../../lib/async/abort.ts";
import { type Clock, sleep } from "../base/clock.ts";
import type { DiskPort, DiskUsage, PulledImage } from "../ports/disk-port.ts";

/** The daemon spends at most one part in this many of its time on disk measurements. */
const REST_PER_MEASUREMENT = 10;

/** Used shares of the disk between which the agent garbage-collects images. */
export interface ImageGcThresholds {
  /** Collection starts at this share. */
  highShare: number;
  /** Collection ends at this share, or when no image is garbage. */
  lowShare: number;
}

export interface ImageGcOptions {
  port: DiskPort;
  thresholds: ImageGcThresholds;
  clock: Clock;
  log: Log;
  intervalMs: number;
  /** An image is garbage only after no set has needed it for this long. */
  unusedMsMin: number;
  /** References of the images of this host's sets, in the form that the daemon lists. */
  neededImages: () => ReadonlySet<string>;
  onUsage: (usage: DiskUsage) => void;
}

/**
 * Measures the disk usage of images and containers, and garbage-collects images before the disk is
 * full. The two are independent: a measurement that takes too long or fails delays no collection.
 */
export class ImageGc {
  readonly #options: ImageGcOptions;
  /** Unused pulled images, and the time since when this agent has seen them unused. */
  readonly #unusedSinceMs = new Map<string, number>();
  #usage: DiskUsage | undefined;

  constructor(options: ImageGcOptions) {
    this.#options = options;
  }

  /** The last measurement; undefined before the first. */
  get usage(): DiskUsage | undefined {
    return this.#usage;
  }

  async run(signal: AbortSignal): Promise<void> {
    await Promise.all([
      this.#repeat(signal, "disk measurement failed", () => this.#measure(signal)),
      this.#repeat(signal, "image garbage collection failed", () => this.#checkDisk(signal)),
    ]);
  }

  async #repeat(signal: AbortSignal, failure: string, act: () => Promise<void>): Promise<void> {
    const { clock, log, intervalMs } = this.#options;
    while (!signal.aborted) {
      const startedAtMs = clock.nowMs();
      try {
        await act();
      } catch (error) {
        if (isAborted(signal)) return;
        log.warn({ err: error }, failure);
      }
      const tookMs = clock.nowMs() - startedAtMs;
      await sleep(clock, Math.max(intervalMs, tookMs * REST_PER_MEASUREMENT), signal);
    }
  }

  async #measure(signal: AbortSignal): Promise<void> {
    const { port, onUsage } = this.#options;
    const usage = await port.measure(signal);
    this.#usage = usage;
    onUsage(usage);
  }

  async #checkDisk(signal: AbortSignal): Promise<void> {
    const { port, thresholds } = this.#options;
    this.#noteUnused(await port.listPulledImages(signal));
    if ((await port.usedShare()) >= thresholds.highShare) await this.#collect(signal);
  }

  #noteUnused(images: readonly PulledImage[]): void {
    const { clock, neededImages } = this.#options;
    const needed = neededImages();
    const unused = new Set(
      images.flatMap(({ reference, isUsed }) =>
        isUsed || needed.has(reference) ? [] : [reference],
      ),
    );
    for (const reference of this.#unusedSinceMs.keys())
      if (!unused.has(reference)) this.#unusedSinceMs.delete(reference);
    for (const reference of unused)
      if (!this.#unusedSinceMs.has(reference)) this.#unusedSinceMs.set(reference, clock.nowMs());
  }

  /**
   * Deletes images in the order in which they became unused, until the disk is below `lowShare`.
   */
  async #collect(signal: AbortSignal): Promise<void> {
    const { port, thresholds, clock, log, unusedMsMin, neededImages } = this.#options;
    const candidates = [...this.#unusedSinceMs].toSorted(([, a], [, b]) => a - b);
    for (const [reference, sinceMs] of candidates) {
      if (clock.nowMs() - sinceMs < unusedMsMin || neededImages().has(reference)) continue;
      const isRemoved = await port.removeImage(reference, signal);
      this.#unusedSinceMs.delete(reference);
      if (isRemoved) log.info({ image: reference }, "image garbage-collected");
      if ((await port.usedShare()) <= thresholds.lowShare) return;
    }
    const usedShare = await port.usedShare();
    if (usedShare < thresholds.highShare) return;
    log.warn({ usedShare }, "disk almost full, no more images to garbage-collect");
  }
}
