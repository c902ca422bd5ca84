import type { Log } from "../../lib/log.ts";

const FLUSH_DELAY_MS = 20;
const IDS_PER_FLUSH_MAX = 10_000;

export interface CompletedJobsOptions {
  deleteOutbox(ids: readonly number[]): Promise<void>;
  log: Log;
}

/**
 * Deletes the outbox rows of completed jobs. It collects ids for 20 ms and deletes them in one
 * statement, so no job waits for a deletion. If a deletion fails, the relay runs the job again,
 * which changes nothing.
 */
export class CompletedJobs {
  readonly #options: CompletedJobsOptions;
  #ids: number[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #deleting: Promise<void> = Promise.resolve();

  constructor(options: CompletedJobsOptions) {
    this.#options = options;
  }

  add(outboxIds: readonly number[]): void {
    if (outboxIds.length === 0) return;
    this.#ids.push(...outboxIds);
    if (this.#ids.length >= IDS_PER_FLUSH_MAX) void this.flush();
    else this.#timer ??= setTimeout(() => void this.flush(), FLUSH_DELAY_MS);
  }

  /** Deletes the remaining rows, and resolves when all deletions have ended. Never throws. */
  flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const ids = this.#ids;
    this.#ids = [];
    if (ids.length === 0) return this.#deleting;
    const deleted = this.#options.deleteOutbox(ids).catch((error: unknown) => {
      this.#options.log.debug({ err: error, rows: ids.length }, "cannot delete outbox rows");
    });
    this.#deleting = Promise.all([this.#deleting, deleted]).then(() => undefined);
    return this.#deleting;
  }
}
