import { createRoute } from "@hono/zod-openapi";
import { createRulesBody, rulesCreatedSchema } from "../../contracts/api/rules.ts";
import { createRules } from "../../control/rules/create-rules.ts";
import { getTenantId } from "../http/api-env.ts";
import {
  bodyProblems,
  idempotentHeaders,
  jsonBody,
  jsonResponse,
  type OperationHandler,
} from "../http/operation.ts";
import { problems } from "../http/problem.ts";
import { writers } from "../http/security.ts";

export const createRulesRoute = createRoute({
  method: "post",
  path: "/v1/rules",
  operationId: "createRules",
  tags: ["rules"],
  summary: "Create rules",
  description:
    "Creates all rules of the request, at most 500, or none. They are usually in force within two seconds. Open connections continue, unless `endConnections` is true.",
  security: writers,
  request: { headers: idempotentHeaders, body: jsonBody(createRulesBody) },
  responses: {
    201: jsonResponse(rulesCreatedSchema, "The rules, in the order of the request."),
    ...bodyProblems,
    ...problems(
      "already-exists",
      "invalid-request",
      "quota-exceeded",
      "idempotency-conflict",
      "idempotency-in-progress",
    ),
  },
});

export const createRulesHandler: OperationHandler<typeof createRulesRoute> = (ctx) => async (c) =>
  c.json({ rules: await createRules(ctx, getTenantId(c), c.req.valid("json")) }, 201);
