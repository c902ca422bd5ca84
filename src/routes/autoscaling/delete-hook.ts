import { createRoute } from "@hono/zod-openapi";
import { deleteHook } from "../../control/autoscaling/delete-hook.ts";
import { getTenantId } from "../http/api-env.ts";
import { commonProblems, type OperationHandler } from "../http/operation.ts";
import { hookParameters } from "../http/parameters.ts";
import { writers } from "../http/security.ts";

export const deleteHookRoute = createRoute({
  method: "delete",
  path: "/v1/services/{name}/hooks/{hookId}",
  operationId: "deleteHook",
  tags: ["autoscaling"],
  summary: "Delete a hook and its token",
  description: "Its alerts resolve: Berth releases their demands after the stabilization window.",
  security: writers,
  request: { params: hookParameters },
  responses: { 204: { description: "The hook is deleted." }, ...commonProblems },
});

export const deleteHookHandler: OperationHandler<typeof deleteHookRoute> = (ctx) => async (c) => {
  const { name, hookId } = c.req.valid("param");
  await deleteHook(ctx, getTenantId(c), name, hookId);
  return c.body(null, 204);
};
