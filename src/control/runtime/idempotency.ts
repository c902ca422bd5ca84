import { AppError } from "../../contracts/common/app-error.ts";
import {
  claimIdempotencyKey,
  insertIdempotencyKey,
} from "../../db/queries/runtime/idempotency-keys.ts";
import type { ControlContext } from "./context.ts";
import { unitOfWork } from "./unit-of-work.ts";

export interface IdempotentRequest {
  /** The owner of the key. Equal keys of different scopes do not collide. */
  scope: string;
  key: string;
  /** The hash of all parts in which two equal requests agree. */
  requestHash: string;
}

/** A stored response. The caller has encrypted `body`, because it may contain secrets. */
export interface IdempotentAnswer {
  status: number;
  body: string;
}

/**
 * Runs `work` once per key (I8). One transaction stores the key, the effect and the answer, so a
 * crash stores all of them or none. `work` receives a context whose database is that transaction,
 * and each unit of work inside joins it. A later equal request gets the stored answer.
 *
 * `work` returns isFinal false if its answer must not be stored, such as a fault of Berth. Then all
 * its effects are rolled back. Throws idempotency-conflict for another request with the key, and
 * idempotency-in-progress while the first request runs.
 */
export async function runIdempotent(
  ctx: ControlContext,
  request: IdempotentRequest,
  work: (ctx: ControlContext) => Promise<{ answer: IdempotentAnswer; isFinal: boolean }>,
): Promise<{ answer: IdempotentAnswer; isReplay: boolean }> {
  return unitOfWork(
    ctx,
    async (tx) => {
      const claim = await claimIdempotencyKey(tx, request.scope, request.key);
      if (claim.state === "busy") throw inProgress();
      if (claim.state === "answered") {
        if (claim.answer.requestHash !== request.requestHash) throw conflict();
        return { answer: claim.answer, isReplay: true };
      }
      const { answer, isFinal } = await work({ ...ctx, db: tx.database, unit: tx });
      if (!isFinal) throw new RollbackWithAnswer(answer);
      await insertIdempotencyKey(tx, request.scope, request.key, {
        requestHash: request.requestHash,
        ...answer,
      });
      return { answer, isReplay: false };
    },
    // Units of work inside retry their own part.
    { retriesMax: 0 },
  ).catch((error: unknown) => {
    if (!(error instanceof RollbackWithAnswer)) throw error;
    return { answer: error.answer, isReplay: false };
  });
}

/** Rolls the transaction back, and carries the answer to the caller. */
class RollbackWithAnswer extends Error {
  override readonly name = "RollbackWithAnswer";
  readonly answer: IdempotentAnswer;
  constructor(answer: IdempotentAnswer) {
    super("the answer is not stored");
    this.answer = answer;
  }
}

function inProgress(): AppError {
  return new AppError("idempotency-in-progress", {
    detail:
      "The first request with this Idempotency-Key is not answered yet. Retry the request in a moment.",
    retryAfterMs: 250,
  });
}

function conflict(): AppError {
  return new AppError("idempotency-conflict", {
    detail: "This Idempotency-Key was used with another request. Use a new key for a new request.",
  });
}
