import type { Prefetch, Prefetched } from "../../contracts/agent-protocol/prefetch.ts";
import { isAborted, linkAbort } from "../../lib/async/abort.ts";
import type { Log } from "../../lib/log.ts";
import { computeBackoffMs, stepBackoff } from "../base/backoff.ts";
import { type Clock, sleep } from "../base/clock.ts";
import { familiarName } from "../model/image-name.ts";
import { toStepFailure } from "../model/step-failure.ts";
import type { SetPort } from "../ports/set-port.ts";

/** A failed image is not requested again sooner than this, however often answers name it. */
const RENEWED_AFTER_MS = 10_000;

interface PrefetchesOptions {
  port: Pick<SetPort, "prefetch">;
  clock: Clock;
  log: Log;
  /** Called when there is an outcome to report. */
  onChange: () => void;
}

/** An image that answers name. */
interface WantedImage extends Prefetch {
  abort: AbortController;
  outcome: Prefetched | undefined;
  /** The monotonic time of the last outcome. */
  endedAtMs: number;
}

/**
 * Pulls the images that rollouts need on this host, before a container that runs stops for them.
 * Each answer that names images names all of them, at most 200. The adapter limits the concurrent
 * pulls. Temporary failures are tried again with backoff while answers name the image.
 */
export class Prefetches {
  readonly #options: PrefetchesOptions;
  readonly #wanted = new Map<string, WantedImage>();
  /** The API reads outcomes, and may lack some. */
  #hasNews = false;

  constructor(options: PrefetchesOptions) {
    this.#options = options;
  }

  /** The named images, in the form that the daemon lists. They are not garbage. */
  get needed(): string[] {
    return [...this.#wanted.values()].map(({ reference }) => familiarName(reference));
  }

  /** Receives the images of an answer; undefined if it says nothing. */
  update(images: readonly Prefetch[] | undefined, stopping: AbortSignal): void {
    if (!images) return;
    const named = new Map(images.map((image) => [toKey(image), image]));
    for (const [key, { abort }] of this.#wanted) {
      if (named.has(key)) continue;
      abort.abort(new Error("no rollout needs the image"));
      this.#wanted.delete(key);
    }
    for (const [key, image] of named) {
      const known = this.#wanted.get(key);
      if (known && !this.#mustRenew(known)) continue;
      const { controller, unlink } = linkAbort(stopping);
      const wanted = { ...image, abort: controller, outcome: undefined, endedAtMs: 0 };
      this.#wanted.set(key, wanted);
      if (image.purpose === "pull") void this.#pull(wanted).finally(unlink);
      else unlink();
    }
    this.#hasNews = true;
    if (this.#list().length > 0) this.#options.onChange();
  }

  /** The outcomes, if the API may lack some. */
  take(): Prefetched[] | undefined {
    if (!this.#hasNews) return undefined;
    this.#hasNews = false;
    const outcomes = this.#list();
    return outcomes.length > 0 ? outcomes : undefined;
  }

  /** The outcomes that `take` returned did not arrive. */
  noteLost(): void {
    this.#hasNews = true;
  }

  #list(): Prefetched[] {
    return [...this.#wanted.values()].flatMap(({ outcome }) => outcome ?? []);
  }

  /** A user may have resumed the rollout. */
  #mustRenew({ outcome, endedAtMs }: WantedImage): boolean {
    if (outcome?.isPermanent !== true) return false;
    return this.#options.clock.nowMs() - endedAtMs >= RENEWED_AFTER_MS;
  }

  /** Never rejects. */
  async #pull(wanted: WantedImage): Promise<void> {
    const { port, clock, log } = this.#options;
    const { reference, tenant } = wanted;
    const { signal } = wanted.abort;
    for (let failuresInRow = 1; !signal.aborted; failuresInRow++) {
      try {
        const { imageId, digest } = await port.prefetch({ reference, tenant }, signal);
        const pulled = { reference, tenant, state: "pulled", imageId } as const;
        return this.#end(wanted, digest === undefined ? pulled : { ...pulled, digest });
      } catch (error) {
        if (isAborted(signal)) return;
        log.warn({ err: error, image: reference }, "cannot prefetch an image");
        const { reason, temporary } = toStepFailure(error, "pull");
        const isPermanent = !temporary;
        this.#end(wanted, { reference, tenant, state: "failed", isPermanent, reason });
        if (isPermanent) return;
      }
      await sleep(clock, computeBackoffMs(stepBackoff, failuresInRow), signal);
    }
  }

  #end(wanted: WantedImage, outcome: Prefetched): void {
    if (wanted.abort.signal.aborted) return;
    wanted.outcome = outcome;
    wanted.endedAtMs = this.#options.clock.nowMs();
    this.#hasNews = true;
    this.#options.onChange();
  }
}

function toKey({ reference, tenant, purpose }: Prefetch): string {
  return `${purpose} ${tenant} ${reference}`;
}
