import { AppError } from "../../contracts/common/app-error.ts";
import type { PooledConnection } from "./pooled-connection.ts";
import { getPriority, type Work } from "./work.ts";

export interface QueueLimits {
  /** The maximum number of waiters of one kind of work. The queue rejects further ones. */
  waitersMax: number;
  /** Waiters of one owner. */
  waitersPerOwnerMax: number;
  /** No waiter waits longer, whatever its own deadline is. */
  waitMaxMs: number;
}

interface Waiter {
  work: Work | undefined;
  give: (connection: PooledConnection) => void;
  fail: (error: AppError) => void;
}

/**
 * Work that waits for a connection: by priority, then first come, first served. Each wait has a
 * deadline and each kind of work a bound, so an overload becomes 503 with Retry-After instead of a
 * growing queue. Work that was aborted or has passed its deadline is never given a connection.
 */
export class ConnectionQueue {
  readonly #limits: QueueLimits;
  readonly #waiters: Waiter[] = [];

  constructor(limits: QueueLimits) {
    this.#limits = limits;
  }

  get length(): number {
    return this.#waiters.length;
  }

  /**
   * Rejects with `overloaded` when the queue is full or the wait is over, with `request-timeout`
   * when it was aborted.
   */
  async wait(work: Work | undefined): Promise<PooledConnection> {
    this.#assertNotFull(work);
    const signal = work?.signal?.();
    if (signal?.aborted) throw abandoned();
    return new Promise((resolve, reject) => {
      const waitMs = Math.min(this.#limits.waitMaxMs, remainingMs(work));
      const waiter: Waiter = {
        work,
        give: (connection) => {
          stop();
          resolve(connection);
        },
        fail: (error) => {
          stop();
          reject(error);
        },
      };
      const leave = (error: AppError): void => {
        const position = this.#waiters.indexOf(waiter);
        if (position !== -1) this.#waiters.splice(position, 1);
        waiter.fail(error);
      };
      const timer = setTimeout(() => leave(overloaded()), waitMs);
      const onAbort = (): void => leave(abandoned());
      signal?.addEventListener("abort", onAbort, { once: true });
      const stop = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", onAbort);
      };
      this.#insert(waiter);
    });
  }

  /** Assigns connections to waiters for as long as `take` finds one for the waiter's work. */
  serve(take: (work: Work | undefined) => PooledConnection | undefined): void {
    for (let position = 0; position < this.#waiters.length;) {
      const waiter = this.#waiters[position];
      const connection = waiter && take(waiter.work);
      if (waiter && connection) {
        this.#waiters.splice(position, 1);
        waiter.give(connection);
      } else position += 1;
    }
  }

  /** Fails all waiters: the pool ends. */
  end(): void {
    for (const waiter of this.#waiters.splice(0)) waiter.fail(overloaded());
  }

  #assertNotFull(work: Work | undefined): void {
    const kind = work?.kind;
    const ofKind = this.#waiters.filter((waiter) => waiter.work?.kind === kind).length;
    if (ofKind >= this.#limits.waitersMax) throw overloaded();
    const owner = work?.owner;
    if (owner === undefined) return;
    const own = this.#waiters.filter((waiter) => waiter.work?.owner === owner).length;
    if (own >= this.#limits.waitersPerOwnerMax) throw overloaded();
  }

  #insert(waiter: Waiter): void {
    const priority = getPriority(waiter.work);
    const position = this.#waiters.findIndex((other) => getPriority(other.work) > priority);
    if (position === -1) this.#waiters.push(waiter);
    else this.#waiters.splice(position, 0, waiter);
  }
}

/** Throws `request-timeout` when the work is past its deadline. */
export function assertWanted(work: Work | undefined): void {
  if (remainingMs(work) <= 0) throw abandoned();
}

function remainingMs(work: Work | undefined): number {
  const deadlineAtMs = work?.deadlineAtMs;
  return deadlineAtMs === undefined ? Number.POSITIVE_INFINITY : deadlineAtMs - performance.now();
}

function overloaded(): AppError {
  return new AppError("overloaded", {
    detail: "All database connections are in use. Nothing was changed. Retry the request later.",
    retryAfterMs: 1_000,
  });
}

function abandoned(): AppError {
  return new AppError("request-timeout", {
    detail: "The request ended before the database was free. Nothing was changed.",
    retryAfterMs: 1_000,
  });
}
