import { sql } from "drizzle-orm";
import { AppError } from "../contracts/common/app-error.ts";
import type { Db, Queryable } from "./postgres/open-postgres.ts";
import { sqlStateOf, toAppError } from "./errors.ts";

export interface TxOptions {
  /** How often a serialization failure or deadlock is tried again. */
  retriesMax?: number;
}

/** From here on each of the transaction's statements is planned for itself. */
export async function makePlans(tx: Queryable): Promise<void> {
  await tx.execute(sql`set local plan_cache_mode = force_custom_plan`);
}

/** What a transaction ends with: its commit is sent behind these statements, without waiting for their answers. */
export class Lastly<T> {
  readonly answers: Promise<T>;

  /** @param answers of statements that wait for nothing, so that none of them comes after the commit: it would be refused */
  constructor(answers: Promise<T>) {
    this.answers = answers;
    answers.catch(() => undefined); // the transaction fails with it
  }
}

const retryableStates = new Set(["40001", "40P01"]);

/**
 * Runs `work` in one transaction (READ COMMITTED) and tries again, with jitter, after a deadlock or a serialization
 * failure: so `work` must have no effect outside of the transaction. Other database errors come out as AppError.
 *
 * Locks are always taken in this order: services, hosts (by id), sets. No network call belongs inside.
 */
export async function withTx<T>(
  db: Db,
  work: (tx: Queryable) => Promise<T | Lastly<T>>,
  options: TxOptions = {},
): Promise<T> {
  const retriesMax = options.retriesMax ?? 5;
  for (let attempt = 0; ; attempt++) {
    try {
      const result = await db.transaction(async (tx) => {
        const last = await work(tx);
        // Its statements are on their way to the driver, through promises alone: let them be there before the commit.
        if (last instanceof Lastly) await new Promise((resolve) => setImmediate(resolve));
        return last;
      });
      return result instanceof Lastly ? await result.answers : result;
    } catch (error) {
      if (error instanceof AppError) throw error;
      const state = sqlStateOf(error);
      if (state === undefined || !retryableStates.has(state) || attempt >= retriesMax)
        throw toAppError(error);
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 20 * 2 ** attempt));
    }
  }
}
