import type { StatusCode } from "hono/utils/http-status";
import { AppError } from "../../contracts/common/app-error.ts";
import { assert } from "../../lib/assert.ts";
import { hashSecret } from "../../lib/token-hash.ts";
import type { ControlContext } from "../../control/runtime/context.ts";
import { type IdempotentAnswer, runIdempotent } from "../../control/runtime/idempotency.ts";
import { translateError } from "../../control/runtime/errors.ts";
import { type ApiContext, callerOf } from "./api-env.ts";
import { toProblemResponse } from "./problem.ts";
import { openSealed, seal } from "./seal.ts";

/** Headers that belong to the answer and are repeated with it. */
const keptHeaders = ["content-type", "etag", "location"] as const;

interface KeptAnswer {
  headers: Record<string, string>;
  text: string;
}

/**
 * Honours Idempotency-Key (I8): the first request under a key runs and its answer is stored in the same transaction as
 * its effect; the same request again gets that answer, with `Idempotency-Replayed: true`. Faults of ours are not stored,
 * so that the request can be repeated. Answers are sealed with the caller's secret, as some carry new secrets.
 */
export function idempotently(
  ctx: ControlContext,
  handlerOf: (ctx: ControlContext) => (c: ApiContext) => Promise<Response>,
): (c: ApiContext) => Promise<Response> {
  const unkeyed = handlerOf(ctx);
  return async (c) => {
    const key = c.req.header("idempotency-key");
    if (key === undefined) return unkeyed(c);
    const secret = c.get("bearerSecret");
    assert(secret, "operations with an Idempotency-Key need a token");
    const request = { scope: callerOf(c).tokenId, key, requestHash: hashRequest(c) };
    let fresh: Response | undefined;
    const { answer, isReplay } = await runIdempotent(ctx, request, async (txCtx) => {
      fresh = await answerOf(c, handlerOf(txCtx));
      const text = await fresh.clone().text();
      const kept: KeptAnswer = { headers: headersOf(fresh), text };
      const body = await seal(JSON.stringify(kept), secret, key);
      return { answer: { status: fresh.status, body }, isFinal: fresh.status < 500 };
    });
    if (!isReplay && fresh) return fresh;
    return replay(c, answer, secret, key);
  };
}

/** The handler's answer, or the problem it threw: both are answers to keep. */
async function answerOf(
  c: ApiContext,
  handler: (c: ApiContext) => Promise<Response>,
): Promise<Response> {
  try {
    return await handler(c);
  } catch (error) {
    return toProblemResponse(c, translateError(error));
  }
}

async function replay(
  c: ApiContext,
  answer: IdempotentAnswer,
  secret: string,
  key: string,
): Promise<Response> {
  const text = await openSealed(answer.body, secret, key);
  if (text === undefined) {
    throw new AppError("internal", { detail: "A stored answer cannot be opened." });
  }
  const kept = JSON.parse(text) as KeptAnswer;
  return c.newResponse(kept.text, answer.status as StatusCode, {
    ...kept.headers,
    "Idempotency-Replayed": "true",
  });
}

function headersOf(response: Response): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const name of keptHeaders) {
    const value = response.headers.get(name);
    if (value !== null) headers[name] = value;
  }
  return headers;
}

/** Of everything that makes two requests the same: what is asked, of whose things, under which condition. */
function hashRequest(c: ApiContext): string {
  const { pathname, search } = new URL(c.req.url);
  const parts = [
    c.req.method,
    pathname,
    search,
    c.get("scope"),
    c.req.header("if-match") ?? null,
    c.get("bodyText") ?? null,
  ];
  return hashSecret(JSON.stringify(parts));
}
