import type { Server } from "node:http";
import { createAdaptorServer } from "@hono/node-server";
import type { ControlContext } from "../../control/runtime/context.ts";
import { Hono } from "hono";
import { createApp } from "../../routes/app.ts";
import { closeServer } from "./close-server.ts";
import type { ControlPlane } from "./control-plane.ts";
import type { Metrics } from "./metrics.ts";
import { createPageFiles } from "./page-files.ts";
import { createQueueDashboard, DASHBOARD_PATH } from "./queue-dashboard.ts";
import type { ProcessContext } from "./run-process.ts";

/** Connections in the kernel's accept queue: a whole fleet may reconnect in one moment. */
const BACKLOG = 4_096;
/**
 * Longer than an agent's pause between two polls, so that an agent never uses a connection that is
 * being closed.
 */
const KEEP_ALIVE_MS = 75_000;
const HEADERS_TIMEOUT_MS = 15_000;
/**
 * An agent sends a container's log in one request while a reader follows it, for at most an hour.
 */
const REQUEST_TIMEOUT_MS = 3_660_000;

export interface ServeOptions {
  host: string;
  /** 0 means any free port. */
  port: number;
}

/** Answers the requests of a server. */
export interface HttpApp {
  fetch: (request: Request, env?: object) => Response | Promise<Response>;
}

/** The whole API with the queue dashboard. `endStreams` ends all streams, before a shutdown. */
export function createApiApp(
  { ctx, queues }: ControlPlane,
  metrics: Metrics,
  version: string,
): HttpApp & { endStreams: () => void } {
  const ending = new AbortController();
  const api = createApp(ctx, {
    version,
    renderMetrics: () => metrics.render(),
    pageFiles: createPageFiles(),
    streamsEnd: ending.signal,
    observeRequest: (facts) => metrics.observeRequest(facts),
  });
  const dashboard = createQueueDashboard(ctx, queues);
  return {
    endStreams: () => ending.abort(),
    fetch: (request, env) =>
      isDashboardPath(request.url) ? dashboard.fetch(request, env) : api.fetch(request, env),
  };
}

/** Matches the path without a router, which would add its cost to each request of the API. */
export function isDashboardPath(url: string): boolean {
  const path = url.slice(url.indexOf("/", url.indexOf("://") + 3));
  return path.startsWith(DASHBOARD_PATH) && /^(?:[/?#]|$)/.test(path.slice(DASHBOARD_PATH.length));
}

/** The endpoints for probes and Prometheus in a process without the API. */
export function createHealthApp(ctx: ControlContext, metrics: Metrics, version: string): Hono {
  const served = new Set(["/healthz", "/readyz", "/metrics"]);
  const api = createApp(ctx, { version, renderMetrics: () => metrics.render() });
  const app = new Hono();
  app.get("*", (c) => (served.has(c.req.path) ? api.fetch(c.req.raw, c.env) : c.notFound()));
  return app;
}

/**
 * Serves `app` until the shutdown, and returns the URL. The shutdown accepts no new connections,
 * ends waits by `endWaits`, and gives requests in flight a short time.
 */
export async function serveHttp(
  app: HttpApp,
  options: ServeOptions,
  endWaits: () => void,
  { shutdown }: ProcessContext,
): Promise<string> {
  const server = createAdaptorServer({
    fetch: app.fetch,
    serverOptions: {
      keepAliveTimeout: KEEP_ALIVE_MS,
      headersTimeout: HEADERS_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
    },
  }) as Server;
  await new Promise<void>((resolve, reject) => {
    const fail = (error: Error): void => reject(toListenError(error, options));
    server.once("error", fail);
    server.listen({ host: options.host, port: options.port, backlog: BACKLOG }, () => {
      server.off("error", fail);
      resolve();
    });
  });
  shutdown.add("http", () => closeServer(server, endWaits));
  return formatAddress(server);
}

function toListenError(error: Error, { host, port }: ServeOptions): Error {
  if (!("code" in error) || error.code !== "EADDRINUSE") return error;
  const text = `port ${port} of ${host} is in use. Stop the program that listens there, or set another BERTH_PORT.`;
  return new Error(text, { cause: error });
}

/** Returns the URL for clients on this machine. */
function formatAddress(server: Server): string {
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("not on a TCP port");
  const isAny = address.address === "::" || address.address === "0.0.0.0";
  const host = isAny ? "127.0.0.1" : address.address;
  return `http://${host.includes(":") ? `[${host}]` : host}:${address.port}`;
}
