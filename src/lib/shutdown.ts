import type { Log } from "./log.ts";
import { withTimeout } from "./async/with-timeout.ts";

interface ShutdownStep {
  name: string;
  close: () => Promise<unknown>;
}

export interface ShutdownOptions {
  log: Log;
  /** The limit of all steps together. The exit of the process closes the remaining resources. */
  deadlineMs: number;
}

/**
 * Closes the resources of a process once, in reverse order. A step that fails or hangs does not
 * block the others. All steps together never exceed the deadline.
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

  /** Adds a step that runs before all steps added earlier. */
  add(name: string, close: () => Promise<unknown>): void {
    this.#steps.push({ name, close });
  }

  get hasBegun(): boolean {
    return this.#done !== undefined;
  }

  /** Resolves to true if every step closed in time without an error. Idempotent. */
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
      const outcome = await withTimeout(closed, leftMs, undefined);
      if (outcome === undefined) this.#log.warn({ step: step.name }, "shutdown step timed out");
      isClean &&= outcome === true;
    }
    const durationMs = Math.round(performance.now() - startedAtMs);
    this.#log.info({ durationMs, isClean }, "stopped");
    return isClean;
  }
}
