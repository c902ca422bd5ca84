import { AppError } from "../../contracts/common/app-error.ts";
import type { JobRing } from "../../contracts/jobs.ts";
import {
  claimIdempotencyKey,
  insertIdempotencyKey,
} from "../../db/queries/runtime/idempotency-keys.ts";
import type { Db } from "../../db/postgres/open-postgres.ts";
import { withTx } from "../../db/transaction.ts";
import type { ServiceContext, SignalChannel } from "./context.ts";

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
 * Runs `work` once per key (I8). Key, effect and answer are one transaction: `work` is given a context whose database is
 * that transaction and whose doorbell and signals are held back until the commit. So there is no moment at which the
 * effect is there and the key is not, and a crash leaves neither. The same request later gets the stored answer.
 *
 * `work` gives isFinal false when its answer must not be kept (a fault of ours): then all it did is undone.
 * Throws idempotency-conflict for another request under the key, idempotency-in-progress while the first one runs.
 */
export async function runIdempotent(
  ctx: ServiceContext,
  request: IdempotentRequest,
  work: (ctx: ServiceContext) => Promise<{ answer: IdempotentAnswer; isFinal: boolean }>,
): Promise<{ answer: IdempotentAnswer; isReplay: boolean }> {
  const held: { jobs: JobRing[]; outboxIds: number[]; channels: SignalChannel[] } = {
    jobs: [],
    outboxIds: [],
    channels: [],
  };
  const outcome = await withTx(
    ctx.db,
    async (tx) => {
      const claim = await claimIdempotencyKey(tx, request.scope, request.key);
      if (claim.state === "busy") throw inProgress();
      if (claim.state === "answered") {
        if (claim.answer.requestHash !== request.requestHash) throw conflict();
        return { answer: claim.answer, isReplay: true };
      }
      const { answer, isFinal } = await work(heldBack(ctx, tx as Db, held));
      if (!isFinal) throw new NotKept(answer);
      await insertIdempotencyKey(tx, request.scope, request.key, {
        requestHash: request.requestHash,
        ...answer,
      });
      return { answer, isReplay: false };
    },
    // The work retries its own part; doing all of it again could ring what was undone.
    { retriesMax: 0 },
  ).catch((error: unknown) => {
    if (!(error instanceof NotKept)) throw error;
    held.jobs.length = 0;
    held.channels.length = 0;
    return { answer: error.answer, isReplay: false };
  });
  if (held.jobs.length > 0) await ctx.doorbell.ring(held.jobs, held.outboxIds);
  if (held.channels.length > 0) await ctx.signals.publish(held.channels);
  return outcome;
}

/** Carries an answer out of a transaction that is to be rolled back. */
class NotKept extends Error {
  override readonly name = "NotKept";
  readonly answer: IdempotentAnswer;
  constructor(answer: IdempotentAnswer) {
    super("the answer is not kept");
    this.answer = answer;
  }
}

/** Everything of `ctx`, but inside the transaction: what it rings and publishes is kept for after the commit. */
function heldBack(
  ctx: ServiceContext,
  tx: Db,
  held: { jobs: JobRing[]; outboxIds: number[]; channels: SignalChannel[] },
): ServiceContext {
  return {
    ...ctx,
    db: tx,
    doorbell: {
      ring: async (jobs, outboxIds) => {
        held.jobs.push(...jobs);
        held.outboxIds.push(...outboxIds);
      },
    },
    signals: {
      publish: async (channels) => {
        held.channels.push(...channels);
      },
      waitFor: (channel, timeoutMs, signal) => ctx.signals.waitFor(channel, timeoutMs, signal),
    },
  };
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
