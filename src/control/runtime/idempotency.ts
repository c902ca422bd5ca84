import { AppError } from "../../contracts/common/app-error.ts";
import {
  claimIdempotencyKey,
  insertIdempotencyKey,
} from "../../db/queries/runtime/idempotency-keys.ts";
import type { ControlContext } from "./context.ts";
import { unitOfWork } from "./unit-of-work.ts";

export interface IdempotentRequest {
  /** Whose key it is: keys of different scopes never meet. */
  scope: string;
  key: string;
  /** Of everything that makes two requests the same. */
  requestHash: string;
}

/** An answer as it is stored; `body` is opaque here (the caller seals it, as it may carry secrets). */
export interface IdempotentAnswer {
  status: number;
  body: string;
}

/**
 * Runs `work` once per key (I8). Key, effect and answer are one transaction: `work` gets a context whose database is
 * that transaction, and every unit of work inside joins it. So no moment exists at which the effect is stored and the
 * key is not, and a crash leaves neither. The same request later gets the stored answer.
 *
 * `work` gives isFinal false when its answer must not be stored (a fault of Berth): then all its effects are undone.
 * Throws idempotency-conflict for another request under the key, idempotency-in-progress while the first one runs.
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

/** Gives the caller an answer and rolls the transaction back. */
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
      "The first request with this Idempotency-Key is not answered yet. Repeat the request in a moment.",
    retryAfterMs: 250,
  });
}

function conflict(): AppError {
  return new AppError("idempotency-conflict", {
    detail: "This Idempotency-Key was used with another request. Use a new key for a new request.",
  });
}
