import { nextTick } from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { sql } from "drizzle-orm";
import { AppError } from "../contracts/common/app-error.ts";
import type { Db, Queryable } from "./postgres/open-postgres.ts";
import { findSqlState, toAppError } from "./errors.ts";

export interface TxOptions {
  /** How often a serialization failure or a deadlock is retried. */
  retriesMax?: number;
  /**
   * Starts the transaction's last statements once `work` is done. The commit follows them without
   * waiting for their answers, which saves a round trip. A failure of one of them fails the
   * transaction.
   */
  sendLast?: () => readonly Promise<unknown>[];
}

const RETRIES_MAX = 5;
const RETRY_DELAY_MS = 20;

/** The `nextTick` of Cloudflare does not wait for microtasks. */
const isOnCloudflare =
  (globalThis as { navigator?: { userAgent?: string } }).navigator?.userAgent ===
  "Cloudflare-Workers";

/**
 * A statement reaches the driver after some microtasks. The commit must come after it, but in the
 * same turn of the event loop. A turn later, a busy process would hold the locks for that turn.
 */
function statementsAreSent(): Promise<void> {
  return new Promise((resolve) => {
    if (isOnCloudflare) setImmediate(resolve);
    else nextTick(resolve);
  });
}

/** Makes Postgres use custom plans for the further statements of the transaction. */
export async function useCustomPlans(tx: Queryable): Promise<void> {
  await tx.execute(sql`set local plan_cache_mode = force_custom_plan`);
}

const retryableStates = new Set(["40001", "40P01"]);

/**
 * Runs `work` in one READ COMMITTED transaction. It retries after a deadlock or a serialization
 * failure, with jitter, so `work` must have no effect outside of the transaction. Converts other
 * database errors to AppError.
 *
 * Use cases that enqueue jobs, signal or emit events call `unitOfWork` instead, which is built on
 * this. ARCHITECTURE.md states the lock order. No network call belongs inside.
 */
export async function withTx<T>(
  db: Db,
  work: (tx: Queryable) => Promise<T>,
  { retriesMax = RETRIES_MAX, sendLast }: TxOptions = {},
): Promise<T> {
  for (let attempt = 0; ; attempt++) {
    try {
      const { result, answers } = await db.transaction(async (tx) => {
        const result = await work(tx);
        const answers = sendLast?.() ?? [];
        // the transaction fails with it
        for (const answer of answers) answer.catch(() => undefined);
        if (answers.length > 0) await statementsAreSent();
        return { result, answers };
      });
      await Promise.all(answers);
      return result;
    } catch (error) {
      if (error instanceof AppError) throw error;
      const state = findSqlState(error);
      if (state === undefined || !retryableStates.has(state) || attempt >= retriesMax)
        throw toAppError(error);
      await delay(Math.random() * RETRY_DELAY_MS * 2 ** attempt);
    }
  }
}
