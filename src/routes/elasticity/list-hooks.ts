import { createRoute } from "@hono/zod-openapi";
import { hookSchema } from "../../contracts/elasticity.ts";
import { pageOf, pageQuery } from "../../contracts/primitives.ts";
import { listHooks } from "../../services/list-hooks.ts";
import { tenantIdOf } from "../api-env.ts";
import { commonProblems, jsonResponse, type OperationHandler } from "../operation.ts";
import { serviceParameters } from "../parameters.ts";
import { readers } from "../security.ts";

export const listHooksRoute = createRoute({
  method: "get",
  path: "/v1/services/{name}/hooks",
  operationId: "listHooks",
  tags: ["elasticity"],
  summary: "List a service's hooks",
  security: readers,
  request: { params: serviceParameters, query: pageQuery },
  responses: { 200: jsonResponse(pageOf(hookSchema), "One page of hooks."), ...commonProblems },
});

export const listHooksHandler: OperationHandler<typeof listHooksRoute> = (ctx) => async (c) => {
  const { name } = c.req.valid("param");
  return c.json(await listHooks(ctx, tenantIdOf(c), name, c.req.valid("query")), 200);
};
