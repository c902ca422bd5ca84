import { createRoute, z } from "@hono/zod-openapi";
import { pingDatabase } from "../../control/runtime/health.ts";
import { jsonResponse, type OperationHandler } from "../http/operation.ts";
import { problems } from "../http/problem.ts";
import { publicAccess } from "../http/security.ts";

const healthSchema = z.strictObject({ ok: z.literal(true) }).meta({ id: "Health" });

export const livenessRoute = createRoute({
  method: "get",
  path: "/healthz",
  operationId: "getLiveness",
  tags: ["system"],
  summary: "Check that the process responds",
  description: "Checks no dependency, as a restart does not repair an unreachable database.",
  security: publicAccess,
  responses: { 200: jsonResponse(healthSchema, "The process responds."), ...problems("internal") },
});

export const livenessHandler: OperationHandler<typeof livenessRoute> = () => async (c) =>
  c.json({ ok: true as const }, 200);

export const readinessRoute = createRoute({
  method: "get",
  path: "/readyz",
  operationId: "getReadiness",
  tags: ["system"],
  summary: "Check that the process can serve requests",
  description: "Checks the database, but not Redis: without Redis, changes only take longer.",
  security: publicAccess,
  responses: {
    200: jsonResponse(healthSchema, "The process can serve requests."),
    ...problems("internal", "dependency-unavailable", "overloaded", "request-timeout"),
  },
});

export const readinessHandler: OperationHandler<typeof readinessRoute> = (ctx) => async (c) => {
  await pingDatabase(ctx);
  return c.json({ ok: true as const }, 200);
};
