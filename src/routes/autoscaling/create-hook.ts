import { createRoute } from "@hono/zod-openapi";
import { createdHookSchema, createHookBody } from "../../contracts/api/autoscaling.ts";
import { createHook } from "../../control/autoscaling/create-hook.ts";
import { getTenantId } from "../http/api-env.ts";
import {
  bodyProblems,
  idempotentHeaders,
  jsonBody,
  jsonResponse,
  type OperationHandler,
} from "../http/operation.ts";
import { serviceParameters } from "../http/parameters.ts";
import { problems } from "../http/problem.ts";
import { writers } from "../http/security.ts";

export const createHookRoute = createRoute({
  method: "post",
  path: "/v1/services/{name}/hooks",
  operationId: "createHook",
  tags: ["autoscaling"],
  summary: "Create a hook that receives the alerts of a service",
  description:
    "Only this response contains the token. The token permits nothing but deliveries to this hook.",
  security: writers,
  request: {
    params: serviceParameters,
    headers: idempotentHeaders,
    body: jsonBody(createHookBody),
  },
  responses: {
    201: jsonResponse(createdHookSchema, "The hook and its token."),
    ...bodyProblems,
    ...problems(
      "already-exists",
      "state-conflict",
      "idempotency-conflict",
      "idempotency-in-progress",
    ),
  },
});

export const createHookHandler: OperationHandler<typeof createHookRoute> = (ctx) => async (c) => {
  const { name } = c.req.valid("param");
  return c.json(await createHook(ctx, getTenantId(c), name, c.req.valid("json")), 201);
};
