import type { Log } from "../lib/log.ts";
import { isAborted } from "./aborted.ts";
import { type Clock, delay } from "./clock.ts";
import type { DiskPort, DiskUse, PulledImage } from "./ports/disk-port.ts";

/** The daemon is kept busy by looks for at most one part in so many of the time. */
const REST_PER_LOOK = 10;

/** When images that no set needs make room, in shares of the disk that are taken. */
export interface ImageCollection {
  /** From here on. */
  highShare: number;
  /** Until so much is taken, or nothing is left to collect. */
  lowShare: number;
}

export interface DiskKeeperOptions {
  port: DiskPort;
  collection: ImageCollection;
  clock: Clock;
  log: Log;
  intervalMs: number;
  /** An image is collected only when it was of no use for so long. */
  unusedMsMin: number;
  /** References of images that sets of this host are made of, as the daemon lists them. */
  neededImages: () => ReadonlySet<string>;
  onUse: (use: DiskUse) => void;
}

/** Knows what images and containers take of the disk, and removes images that nobody needs before it is full. */
export class DiskKeeper {
  readonly #options: DiskKeeperOptions;
  /** Pulled images of no use, and since when this agent knows. */
  readonly #unusedSinceMs = new Map<string, number>();
  #use: DiskUse | undefined;

  constructor(options: DiskKeeperOptions) {
    this.#options = options;
  }

  /** As of the last look; undefined before the first. */
  get use(): DiskUse | undefined {
    return this.#use;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock, log, intervalMs } = this.#options;
    while (!signal.aborted) {
      const startedAtMs = clock.nowMs();
      try {
        await this.#look(signal);
      } catch (error) {
        if (isAborted(signal)) return;
        log.warn({ err: error }, "disk not looked after");
      }
      const tookMs = clock.nowMs() - startedAtMs;
      await delay(clock, Math.max(intervalMs, tookMs * REST_PER_LOOK), signal);
    }
  }

  async #look(signal: AbortSignal): Promise<void> {
    const { port, collection, onUse } = this.#options;
    const use = await port.use(signal);
    this.#use = use;
    this.#noteUnused(use.pulledImages);
    onUse(use);
    if ((await port.usedShare()) >= collection.highShare) await this.#collect(signal);
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

  /** What was of no use for longest goes first. */
  async #collect(signal: AbortSignal): Promise<void> {
    const { port, collection, clock, log, unusedMsMin, neededImages } = this.#options;
    const candidates = [...this.#unusedSinceMs].toSorted(([, a], [, b]) => a - b);
    for (const [reference, sinceMs] of candidates) {
      if (clock.nowMs() - sinceMs < unusedMsMin || neededImages().has(reference)) continue;
      const isRemoved = await port.removeImage(reference, signal);
      this.#unusedSinceMs.delete(reference);
      if (isRemoved) log.info({ image: reference }, "image collected");
      if ((await port.usedShare()) <= collection.lowShare) return;
    }
    const usedShare = await port.usedShare();
    if (usedShare < collection.highShare) return;
    log.warn({ usedShare }, "the disk fills up, and there is nothing more to collect");
  }
}
