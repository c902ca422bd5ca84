import { createRoute } from "@hono/zod-openapi";
import { rotatedHookSchema } from "../../contracts/api/autoscaling.ts";
import { rotateBody } from "../../contracts/api/tenancy.ts";
import { rotateHook } from "../../control/autoscaling/rotate-hook.ts";
import { getTenantId } from "../http/api-env.ts";
import {
  bodyProblems,
  idempotentHeaders,
  jsonBody,
  jsonResponse,
  type OperationHandler,
} from "../http/operation.ts";
import { hookParameters } from "../http/parameters.ts";
import { problems } from "../http/problem.ts";
import { writers } from "../http/security.ts";

export const rotateHookRoute = createRoute({
  method: "post",
  path: "/v1/services/{name}/hooks/{hookId}/rotate",
  operationId: "rotateHook",
  tags: ["autoscaling"],
  summary: "Give a hook a new token",
  description:
    "Both tokens are valid during the overlap. The URL, the rules and the demands of the hook stay.",
  security: writers,
  request: { params: hookParameters, headers: idempotentHeaders, body: jsonBody(rotateBody) },
  responses: {
    201: jsonResponse(rotatedHookSchema, "The new token, and the expiry of the previous one."),
    ...bodyProblems,
    ...problems("state-conflict", "idempotency-conflict", "idempotency-in-progress"),
  },
});

export const rotateHookHandler: OperationHandler<typeof rotateHookRoute> = (ctx) => async (c) => {
  const { name, hookId } = c.req.valid("param");
  const { overlapSeconds } = c.req.valid("json");
  return c.json(await rotateHook(ctx, getTenantId(c), name, hookId, overlapSeconds), 201);
};
