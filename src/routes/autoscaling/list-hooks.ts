import { createRoute } from "@hono/zod-openapi";
import { hookSchema } from "../../contracts/api/autoscaling.ts";
import { pageOf, pageQuery } from "../../contracts/common/primitives.ts";
import { listHooks } from "../../control/autoscaling/list-hooks.ts";
import { getTenantId } from "../http/api-env.ts";
import { commonProblems, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { serviceParameters } from "../http/parameters.ts";
import { readers } from "../http/security.ts";

export const listHooksRoute = createRoute({
  method: "get",
  path: "/v1/services/{name}/hooks",
  operationId: "listHooks",
  tags: ["autoscaling"],
  summary: "List a service's hooks",
  security: readers,
  request: { params: serviceParameters, query: pageQuery },
  responses: { 200: jsonResponse(pageOf(hookSchema), "One page of hooks."), ...commonProblems },
});

export const listHooksHandler: OperationHandler<typeof listHooksRoute> = (ctx) => async (c) => {
  const { name } = c.req.valid("param");
  return c.json(await listHooks(ctx, getTenantId(c), name, c.req.valid("query")), 200);
};
