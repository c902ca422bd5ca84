import type { OpenAPIHono, RouteConfig, RouteHandler } from "@hono/zod-openapi";
import { z } from "@hono/zod-openapi";
import type { Handler, MiddlewareHandler } from "hono";
import { AppError } from "../../contracts/common/app-error.ts";
import { assert } from "../../lib/assert.ts";
import { bindWork } from "../../control/runtime/bind-work.ts";
import type { ControlContext } from "../../control/runtime/context.ts";
import { RequestAdmission } from "./request-admission.ts";
import type { ApiContext, ApiEnv } from "./api-env.ts";
import { authorize, createTenantLookup, type FindTenantId } from "./authorize.ts";
import { LongRequests } from "./long-requests.ts";
import { ifMatchHeader } from "./if-match.ts";
import { withIdempotencyKey } from "./idempotency.ts";
import { problems } from "./problem.ts";
import { readJsonBody } from "./read-body.ts";
import type { Security } from "./security.ts";

export const BODY_BYTES_MAX = 2 ** 20;
const TIME_LIMIT_MS = 15_000;

/**
 * Creates the handler of one operation. It runs for each request, unless the operation is mounted
 * with `isShared`.
 */
export type OperationHandler<R extends RouteConfig> = (
  ctx: ControlContext,
) => RouteHandler<R, ApiEnv>;

export interface OperationLimits {
  bodyBytesMax?: number;
  /** Creates the error for a longer body. Default: body-too-large. */
  tooLarge?: (bytesMax: number) => AppError;
  /** Replaces text that the database cannot store. Default: rejects it. */
  acceptsAnyText?: boolean;
  /** One handler with a state of its own serves all requests. It bounds its use of the database. */
  isShared?: boolean;
  /** The request waits for a change. It counts among the long requests of its caller. */
  isWait?: boolean;
  /**
   * The time after which the response is 503. Null if the handler bounds its own time (streams).
   */
  timeLimitMs?: number | null;
}

/** The app with its mounted operations. */
export interface Api {
  app: OpenAPIHono<ApiEnv>;
  ctx: ControlContext;
  findTenantId: FindTenantId;
  admission: RequestAdmission;
  longRequests: LongRequests;
  /** Aborts at the shutdown of the process. Then each stream ends, and its reader reconnects. */
  streamsEnd: AbortSignal | undefined;
  /** All operations, for the response 405 and for tests. */
  mounted: MountedOperation[];
}

export interface MountedOperation {
  operationId: string;
  method: string;
  path: string;
  security: Security;
  route: RouteConfig;
}

export function createApi(
  app: OpenAPIHono<ApiEnv>,
  ctx: ControlContext,
  streamsEnd?: AbortSignal,
): Api {
  return {
    app,
    ctx,
    findTenantId: createTenantLookup(ctx),
    admission: new RequestAdmission(),
    longRequests: new LongRequests(),
    streamsEnd,
    mounted: [],
  };
}

/**
 * Mounts one operation with the middleware of all operations: authorization by the route's
 * `security`, and limits of body and time. If the route declares Idempotency-Key, its responses are
 * stored and replayed.
 */
export function mount<R extends RouteConfig>(
  api: Api,
  route: R,
  createHandler: OperationHandler<R>,
  limits: OperationLimits = {},
): void {
  const { operationId } = route;
  assert(operationId, `${route.method} ${route.path} has an operationId`);
  assert(route.security, `${operationId} declares its callers`);
  const security: Security = route.security;
  api.mounted.push({
    operationId,
    method: route.method.toUpperCase(),
    path: route.path,
    security,
    route,
  });
  const nameOperation: MiddlewareHandler<ApiEnv> = (c, next) => {
    c.set("operationId", operationId);
    return next();
  };
  const timeLimitMs = limits.timeLimitMs === undefined ? TIME_LIMIT_MS : limits.timeLimitMs;
  // The limit includes authentication, which queries the database, and the reading of the body.
  const middleware = [nameOperation, limitTime(timeLimitMs ?? TIME_LIMIT_MS)];
  if (security.length > 0) middleware.push(authorize(api.ctx, security, api.findTenantId));
  if (route.request?.body?.content["application/json"]) {
    middleware.push(
      readJsonBody({
        bytesMax: limits.bodyBytesMax ?? BODY_BYTES_MAX,
        acceptsAnyText: limits.acceptsAnyText ?? false,
        tooLarge: limits.tooLarge,
        isOptional: route.request.body.required === false,
      }),
    );
  }
  // The code below uses only the context and the response, not the input types of the route.
  const plain = createHandler as unknown as (
    ctx: ControlContext,
  ) => (c: ApiContext) => Promise<Response>;
  const handlerFor = isIdempotent(route)
    ? (ctx: ControlContext) => withIdempotencyKey(ctx, plain)
    : plain;
  const run = limits.isShared
    ? plain(bindWork(api.ctx, { kind: "request" }))
    : api.admission.wrap(api.ctx, handlerFor);
  const limited = limits.isWait ? limitWaits(api.longRequests, run) : run;
  const handler = timeLimitMs === null ? withoutTimeLimit(limited) : limited;
  api.app.openapi({ ...route, middleware }, handler as Handler);
}

/** Counts a wait among the long requests of its caller until it is answered. */
function limitWaits(
  longRequests: LongRequests,
  run: (c: ApiContext) => Promise<Response>,
): (c: ApiContext) => Promise<Response> {
  return async (c) => {
    const release = longRequests.enter(c);
    try {
      return await run(c);
    } finally {
      release();
    }
  };
}

function limitTime(timeLimitMs: number): MiddlewareHandler<ApiEnv> {
  return async (c, next) => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => {
        reject(
          new AppError("request-timeout", {
            detail: `The request took longer than ${timeLimitMs} ms. It may still take effect.`,
            retryAfterMs: 1_000,
          }),
        );
      }, timeLimitMs);
    });
    c.set("deadlineAtMs", performance.now() + timeLimitMs);
    c.set("endTimeLimit", () => {
      clearTimeout(timer);
      c.set("deadlineAtMs", undefined);
    });
    try {
      await Promise.race([next(), late]);
    } finally {
      clearTimeout(timer);
    }
  };
}

/** Ends the time limit when the handler starts: authentication is bounded, the handler is not. */
function withoutTimeLimit(
  run: (c: ApiContext) => Promise<Response>,
): (c: ApiContext) => Promise<Response> {
  return (c) => {
    c.get("endTimeLimit")?.();
    return run(c);
  };
}

const idempotencyKey = z
  .string()
  .regex(/^[\x21-\x7e]{1,255}$/, "expected 1 to 255 printable ASCII characters")
  .optional()
  .describe(
    "Requests with the same key and body take effect once. For 24 hours Berth returns the stored response.",
  );

/** Declares that an operation supports Idempotency-Key: see idempotency.ts. */
export const idempotentHeaders = z.object({ "idempotency-key": idempotencyKey });

/** Declares that an operation supports Idempotency-Key and If-Match. */
export const idempotentChangeHeaders = z.object({
  "idempotency-key": idempotencyKey,
  "if-match": ifMatchHeader,
});

function isIdempotent(route: RouteConfig): boolean {
  const headers = route.request?.headers;
  return headers === idempotentHeaders || headers === idempotentChangeHeaders;
}

export function jsonBody<S extends z.ZodType>(schema: S) {
  return { required: true, content: { "application/json": { schema } } } as const;
}

/** A body that may be omitted. In that case no member has a value, not even its default. */
export function optionalJsonBody<S extends z.ZodType>(schema: S) {
  return { required: false, content: { "application/json": { schema } } } as const;
}

export function jsonResponse<S extends z.ZodType>(schema: S, description: string) {
  return { description, content: { "application/json": { schema } } } as const;
}

/** Problems of each operation with a credential. */
export const commonProblems = problems(
  "unauthenticated",
  "forbidden",
  "not-found",
  "invalid-request",
  "internal",
  "dependency-unavailable",
  "overloaded",
  "outcome-unknown",
  "request-timeout",
);

/** Problems of each operation with a JSON body. */
export const bodyProblems = {
  ...commonProblems,
  ...problems("malformed-request", "body-too-large", "unsupported-media-type"),
};
