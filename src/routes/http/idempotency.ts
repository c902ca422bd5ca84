import type { StatusCode } from "hono/utils/http-status";
import { AppError } from "../../contracts/common/app-error.ts";
import { assert } from "../../lib/assert.ts";
import { hashSecret } from "../../lib/token-hash.ts";
import type { ControlContext } from "../../control/runtime/context.ts";
import { type IdempotentAnswer, runIdempotent } from "../../control/runtime/idempotency.ts";
import { translateError } from "../../control/runtime/errors.ts";
import { type ApiContext, getCaller } from "./api-env.ts";
import { toProblemResponse } from "./problem.ts";
import { openSealed, seal } from "./seal.ts";

/** Headers that a replay repeats. */
const storedHeaders = ["content-type", "etag", "location"] as const;

interface StoredAnswer {
  headers: Record<string, string>;
  text: string;
}

/**
 * Implements Idempotency-Key (I8). The first request with a key runs, and one transaction stores
 * its effect and its response. An equal request gets the stored response, with
 * `Idempotency-Replayed: true`. Responses with a 5xx status or with Retry-After are not stored, so
 * that the request can be retried with its key. The secret of the caller encrypts stored responses,
 * because some contain new secrets.
 */
export function withIdempotencyKey(
  ctx: ControlContext,
  createHandler: (ctx: ControlContext) => (c: ApiContext) => Promise<Response>,
): (c: ApiContext) => Promise<Response> {
  const withoutKey = createHandler(ctx);
  return async (c) => {
    const key = c.req.header("idempotency-key");
    if (key === undefined) return withoutKey(c);
    const secret = c.get("bearerSecret");
    assert(secret, "operations with an Idempotency-Key need a token");
    const request = { scope: getCaller(c).tokenId, key, requestHash: hashRequest(c) };
    let fresh: Response | undefined;
    const { answer, isReplay } = await runIdempotent(ctx, request, async (txCtx) => {
      fresh = await runHandler(c, createHandler(txCtx));
      const text = await fresh.clone().text();
      const stored: StoredAnswer = { headers: readStoredHeaders(fresh), text };
      const body = await seal(JSON.stringify(stored), secret, key);
      const isFinal = fresh.status < 500 && !fresh.headers.has("retry-after");
      return { answer: { status: fresh.status, body }, isFinal };
    });
    if (!isReplay && fresh) return fresh;
    return replay(c, answer, secret, key);
  };
}

/** Returns the handler's response, or the response for the problem that it threw. */
async function runHandler(
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
    throw new AppError("internal", { detail: "Berth cannot decrypt a stored answer." });
  }
  const stored = JSON.parse(text) as StoredAnswer;
  return c.newResponse(stored.text, answer.status as StatusCode, {
    ...stored.headers,
    "Idempotency-Replayed": "true",
  });
}

function readStoredHeaders(response: Response): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const name of storedHeaders) {
    const value = response.headers.get(name);
    if (value !== null) headers[name] = value;
  }
  return headers;
}

/**
 * Hashes all parts in which two equal requests agree: method, address, scope, condition and body.
 */
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
