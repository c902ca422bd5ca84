import { createBullBoard } from "@bull-board/api";
import { BullMQAdapter } from "@bull-board/api/bullMQAdapter";
import { HonoAdapter } from "@bull-board/hono";
import { serveStatic } from "@hono/node-server/serve-static";
import { Hono, type MiddlewareHandler } from "hono";
import { queueNames } from "../../contracts/jobs.ts";
import type { JobQueues } from "../../jobs/queue/job-queues.ts";
import { authenticate } from "../../control/tenancy/authenticate.ts";
import type { ControlContext } from "../../control/runtime/context.ts";

export const DASHBOARD_PATH = "/ops/queues";

/**
 * The queue dashboard for operators: waiting and failed jobs with their reasons, and a retry
 * button. Only admin tokens have access, as Bearer, or for browsers as the password of Basic
 * credentials. Any error denies access.
 */
export function createQueueDashboard(ctx: ControlContext, queues: JobQueues): Hono {
  const adapter = new HonoAdapter(serveStatic);
  adapter.setBasePath(DASHBOARD_PATH);
  createBullBoard({
    queues: queueNames.map((name) => new BullMQAdapter(queues.get(name))),
    serverAdapter: adapter,
    options: { uiConfig: { boardTitle: "Berth" } },
  });
  const app = new Hono();
  app.use("*", requireAdmin(ctx));
  app.route(DASHBOARD_PATH, adapter.registerPlugin());
  app.onError((error, c) => {
    ctx.log.warn({ err: error, path: c.req.path }, "queue dashboard");
    return c.text("The queues are not readable now. Try again.\n", 503, { "Retry-After": "2" });
  });
  return app;
}

function requireAdmin(ctx: ControlContext): MiddlewareHandler {
  return async (c, next) => {
    const secret = readSecret(c.req.header("authorization") ?? "");
    const caller = secret === undefined ? undefined : await authenticate(ctx, secret);
    if (caller?.role !== "admin") {
      c.header(
        "WWW-Authenticate",
        'Basic realm="Berth (password: an admin token)", charset="UTF-8"',
      );
      return c.text("Only admin tokens may see the queues.\n", 401);
    }
    // Browsers send Basic credentials even with requests that another site causes.
    const site = c.req.header("sec-fetch-site");
    const isForeign = site !== undefined && site !== "same-origin" && site !== "none";
    if (isForeign && c.req.method !== "GET")
      return c.text("Requests from another site must not change queues.\n", 403);
    return next();
  };
}

function readSecret(header: string): string | undefined {
  const bearer = /^bearer +([\x21-\x7e]{1,512})$/i.exec(header)?.[1];
  if (bearer !== undefined) return bearer;
  const basic = /^basic +([A-Za-z0-9+/]{1,1024}={0,2})$/i.exec(header)?.[1];
  if (basic === undefined) return undefined;
  const text = Buffer.from(basic, "base64").toString("utf8");
  const colon = text.indexOf(":");
  return colon === -1 || colon === text.length - 1 ? undefined : text.slice(colon + 1);
}
