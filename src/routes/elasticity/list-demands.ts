import { createRoute } from "@hono/zod-openapi";
import { demandSchema } from "../../contracts/elasticity.ts";
import { pageOf, pageQuery } from "../../contracts/primitives.ts";
import { listDemands } from "../../services/list-demands.ts";
import { tenantIdOf } from "../api-env.ts";
import { commonProblems, jsonResponse, type OperationHandler } from "../operation.ts";
import { serviceParameters } from "../parameters.ts";
import { readers } from "../security.ts";

export const listDemandsRoute = createRoute({
  method: "get",
  path: "/v1/services/{name}/demands",
  operationId: "listDemands",
  tags: ["elasticity"],
  summary: "List what alerts want, or wanted, of a service",
  description: "Newest first.",
  security: readers,
  request: { params: serviceParameters, query: pageQuery },
  responses: { 200: jsonResponse(pageOf(demandSchema), "One page of demands."), ...commonProblems },
});

export const listDemandsHandler: OperationHandler<typeof listDemandsRoute> = (ctx) => async (c) => {
  const { name } = c.req.valid("param");
  return c.json(await listDemands(ctx, tenantIdOf(c), name, c.req.valid("query")), 200);
};
