import { Hono } from "hono";
import { expect, it, vi } from "vitest";
import type { Log } from "../../lib/log.ts";
import type { ApiEnv } from "./api-env.ts";
import { requestContext } from "./request-context.ts";

const fault = new Error("too late");

/** The levels and errors of the log lines of a request. */
async function logRequest(status: 200 | 500 | 503, signal?: AbortSignal) {
  const lines: { level: string; err: unknown }[] = [];
  const at = (level: string) =>
    vi.fn((fields: object) => {
      lines.push({ level, err: "err" in fields ? fields.err : undefined });
    });
  const log: Log = {
    debug: at("debug"),
    info: at("info"),
    warn: at("warn"),
    error: at("error"),
    child: () => log,
  };
  const app = new Hono<ApiEnv>();
  app.use("*", requestContext(log, undefined));
  app.get("/", (c) => {
    if (status !== 200) c.set("fault", fault);
    return c.body(null, status);
  });
  await app.request("/", signal === undefined ? {} : { signal });
  return lines;
}

it.each([
  { status: 200, level: "info", err: undefined },
  { status: 500, level: "error", err: fault },
  { status: 503, level: "warn", err: fault },
] as const)("logs a request with status $status at level $level", async ({ status, ...line }) => {
  expect(await logRequest(status)).toEqual([line]);
});

it("logs no warning for a 503 of an aborted request, but an error for its 500", async () => {
  const aborted = AbortSignal.abort();
  expect(await logRequest(503, aborted)).toEqual([{ level: "info", err: undefined }]);
  expect(await logRequest(500, aborted)).toEqual([{ level: "error", err: fault }]);
});
