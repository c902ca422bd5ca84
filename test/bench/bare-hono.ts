import { serve } from "@hono/node-server";
import { Hono } from "hono";

/**
 * A process that serves given JSON bodies with Hono alone: no authentication, validation or
 * database. The parent sends the bodies by name; the process answers with its port.
 */
process.on("message", (bodies: Record<string, object>) => {
  const app = new Hono();
  app.get("/v1/services/:name", (c) => {
    const body = bodies[c.req.param("name")];
    return body ? c.json(body) : c.notFound();
  });
  serve({ fetch: app.fetch, port: 0, hostname: "127.0.0.1" }, ({ port }) => process.send?.(port));
});
process.on("disconnect", () => process.exit(0));
