import { createRoute, z } from "@hono/zod-openapi";
import { pingDatabase } from "../../control/runtime/health.ts";
import { jsonResponse, type OperationHandler } from "../http/operation.ts";
import { problems } from "../http/problem.ts";
import { everybody } from "../http/security.ts";

const healthSchema = z.strictObject({ ok: z.literal(true) }).meta({ id: "Health" });

export const livenessRoute = createRoute({
  method: "get",
  path: "/healthz",
  operationId: "getLiveness",
  tags: ["system"],
  summary: "Whether the process lives",
  description: "Asks nothing of anybody else: a restart would not cure a database that is away.",
  security: everybody,
  responses: { 200: jsonResponse(healthSchema, "It does."), ...problems("internal") },
});

export const livenessHandler: OperationHandler<typeof livenessRoute> = () => async (c) =>
  c.json({ ok: true as const }, 200);

export const readinessRoute = createRoute({
  method: "get",
  path: "/readyz",
  operationId: "getReadiness",
  tags: ["system"],
  summary: "Whether requests can be served",
  description: "Asks the database. Redis is not asked: without it everything works, only slower.",
  security: everybody,
  responses: {
    200: jsonResponse(healthSchema, "They can."),
    ...problems("internal", "dependency-unavailable", "overloaded", "request-timeout"),
  },
});

export const readinessHandler: OperationHandler<typeof readinessRoute> = (ctx) => async (c) => {
  await pingDatabase(ctx);
  return c.json({ ok: true as const }, 200);
};
