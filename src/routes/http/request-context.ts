import type { MiddlewareHandler } from "hono";
import { newId } from "../../lib/ids.ts";
import type { Log } from "../../lib/log.ts";
import type { ApiContext, ApiEnv } from "./api-env.ts";

/** The facts of a request when its response begins, for metrics. */
export interface RequestFacts {
  operationId: string;
  method: string;
  status: number;
  durationMs: number;
}

const validRequestId = /^[A-Za-z0-9._-]{1,64}$/;

/**
 * Assigns each request an id, which the caller may choose, and the headers of all responses. Writes
 * one log line when the response begins, including for streams.
 */
export function requestContext(
  log: Log,
  observe: ((facts: RequestFacts) => void) | undefined,
): MiddlewareHandler<ApiEnv> {
  return async (c, next) => {
    const startedAt = performance.now();
    const given = c.req.header("x-request-id");
    const requestId = given !== undefined && validRequestId.test(given) ? given : newId("req");
    c.set("requestId", requestId);
    c.set("scope", null);
    c.header("X-Request-Id", requestId);
    c.header("X-Content-Type-Options", "nosniff");
    c.header("Cache-Control", "no-store");
    await next();
    const durationMs = Math.round((performance.now() - startedAt) * 100) / 100;
    const { status } = c.res;
    observe?.({
      operationId: c.get("operationId") ?? "none",
      method: c.req.method,
      status,
      durationMs,
    });
    logRequest(log, c, status, durationMs);
  };
}

function logRequest(log: Log, c: ApiContext, status: number, durationMs: number): void {
  const caller = c.get("caller");
  // The client has aborted the request, so its 503 needs no attention.
  const isAbandoned = status > 500 && c.req.raw.signal.aborted;
  const fault = isAbandoned ? undefined : c.get("fault");
  const fields = {
    requestId: c.get("requestId"),
    operationId: c.get("operationId"),
    method: c.req.method,
    path: c.req.path,
    status,
    durationMs,
    code: c.get("problemCode"),
    tokenId: caller?.tokenId,
    role: caller?.role,
    tenantId: c.get("scope") ?? undefined,
    hostId: c.get("host")?.hostId,
    ...(fault === undefined ? {} : { err: fault }),
  };
  if (status === 500) log.error(fields, "request");
  else if (status > 500 && !isAbandoned) log.warn(fields, "request");
  else log.info(fields, "request");
}
