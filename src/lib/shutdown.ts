import type { Log } from "./log.ts";
import { within } from "./async/with-timeout.ts";

interface ShutdownStep {
  name: string;
  close: () => Promise<unknown>;
}

export interface ShutdownOptions {
  log: Log;
  /** For all steps together. What has not closed by then is left to the end of the process. */
  deadlineMs: number;
}

/**
 * Closes what a process has opened, in reverse order, once. A step that fails or hangs does not keep the
 * others from their turn; all together never take longer than the deadline.
 */
export class Shutdown {
  readonly #log: Log;
  readonly #deadlineMs: number;
  readonly #steps: ShutdownStep[] = [];
  #done: Promise<boolean> | undefined;

  constructor(options: ShutdownOptions) {
    this.#log = options.log;
    this.#deadlineMs = options.deadlineMs;
  }

  /** Adds what was just opened: it closes before everything that was added earlier. */
  add(name: string, close: () => Promise<unknown>): void {
    this.#steps.push({ name, close });
  }

  get hasBegun(): boolean {
    return this.#done !== undefined;
  }

  /** True when everything closed in time and without an error. Later calls get the same promise. */
  run(): Promise<boolean> {
    this.#done ??= this.#run();
    return this.#done;
  }

  async #run(): Promise<boolean> {
    const startedAtMs = performance.now();
    let isClean = true;
    for (const step of this.#steps.toReversed()) {
      const leftMs = Math.max(0, this.#deadlineMs - (performance.now() - startedAtMs));
      const closed = Promise.resolve()
        .then(() => step.close())
        .then(
          () => true,
          (error: unknown) => {
            this.#log.warn({ err: error, step: step.name }, "shutdown step failed");
            return false;
          },
        );
      const outcome = await within(closed, leftMs, undefined);
      if (outcome === undefined) this.#log.warn({ step: step.name }, "shutdown step was too slow");
      isClean &&= outcome === true;
    }
    const durationMs = Math.round(performance.now() - startedAtMs);
    this.#log.info({ durationMs, isClean }, "stopped");
    return isClean;
  }
}
