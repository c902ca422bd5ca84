import type { Server } from "node:http";
import { networkInterfaces } from "node:os";
import { createAdaptorServer } from "@hono/node-server";
import type { ControlContext } from "../../control/runtime/context.ts";
import { Hono } from "hono";
import { createApp } from "../../routes/app.ts";
import type { SessionRelay } from "../../control/session-relay/session-relay.ts";
import { closeServer } from "./close-server.ts";
import type { ControlPlane } from "./control-plane.ts";
import type { HttpApp } from "./http-app.ts";
import type { Metrics } from "./metrics.ts";
import { createPageFiles } from "./page-files.ts";
import { createQueueDashboard, DASHBOARD_PATH } from "./queue-dashboard.ts";
import type { ProcessContext } from "./run-process.ts";
import { serveWebSockets } from "./serve-web-sockets.ts";

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

/** WebSockets get this time to send what waits, and to close in order. */
const SOCKETS_END_MS = 1_000;

export interface ServeOptions {
  host: string;
  /** 0 means any free port. */
  port: number;
  /** The URL of this process for the other processes of the API. Default: its own address. */
  internalUrl?: string | undefined;
}

/** The address of the API by its configuration. */
export function toServeOptions(config: {
  BERTH_HOST: string;
  BERTH_PORT: number;
  BERTH_API_INTERNAL_URL?: string | undefined;
}): ServeOptions {
  const { BERTH_HOST: host, BERTH_PORT: port, BERTH_API_INTERNAL_URL: internalUrl } = config;
  return { host, port, internalUrl };
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
    sessions: ctx.sessions,
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
  const endSockets = app.sessions && serveSessions(server, app, app.sessions, options);
  shutdown.add("http", async () => {
    const closed = closeServer(server, endWaits);
    await endSockets?.();
    await closed;
  });
  return formatAddress(server);
}

/** Returns the function that ends all sessions, and then their connections. */
function serveSessions(
  server: Server,
  app: HttpApp,
  sessions: SessionRelay,
  { internalUrl }: ServeOptions,
): () => Promise<void> {
  const endSockets = serveWebSockets(server, app, sessions);
  sessions.setOwnUrl(internalUrl?.replace(/\/+$/, "") ?? formatInternalAddress(server));
  return async () => {
    await sessions.live.endAll("The API stops. Repeat the command.");
    const timer = setTimeout(endSockets, SOCKETS_END_MS);
    timer.unref();
  };
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

/** Returns the URL for other machines, unless the server listens on this machine alone. */
function formatInternalAddress(server: Server): string {
  const own = formatAddress(server);
  const address = server.address();
  const isAny = typeof address === "object" && /^(::|0\.0\.0\.0)$/.test(address?.address ?? "");
  const outer = Object.values(networkInterfaces())
    .flatMap((entries) => entries ?? [])
    .find(({ family, internal }) => family === "IPv4" && !internal);
  return isAny && outer ? own.replace("127.0.0.1", outer.address) : own;
}
