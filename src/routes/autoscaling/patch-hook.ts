import { createRoute } from "@hono/zod-openapi";
import { hookSchema, patchHookBody } from "../../contracts/api/autoscaling.ts";
import { patchHook } from "../../control/autoscaling/patch-hook.ts";
import { getTenantId } from "../http/api-env.ts";
import { bodyProblems, jsonBody, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { hookParameters } from "../http/parameters.ts";
import { problems } from "../http/problem.ts";
import { writers } from "../http/security.ts";

export const patchHookRoute = createRoute({
  method: "patch",
  path: "/v1/services/{name}/hooks/{hookId}",
  operationId: "patchHook",
  tags: ["autoscaling"],
  summary: "Change a hook's rules or its stabilization window",
  description:
    "Absent members stay unchanged, as do the hook's URL and token. Held demands keep their want.",
  security: writers,
  request: { params: hookParameters, body: jsonBody(patchHookBody) },
  responses: {
    200: jsonResponse(hookSchema, "The hook."),
    ...bodyProblems,
    ...problems("state-conflict"),
  },
});

export const patchHookHandler: OperationHandler<typeof patchHookRoute> = (ctx) => async (c) => {
  const { name, hookId } = c.req.valid("param");
  return c.json(await patchHook(ctx, getTenantId(c), name, hookId, c.req.valid("json")), 200);
};
