import { createRoute } from "@hono/zod-openapi";
import { demandSchema } from "../../contracts/api/autoscaling.ts";
import { pageOf, pageQuery } from "../../contracts/common/primitives.ts";
import { listDemands } from "../../control/autoscaling/list-demands.ts";
import { getTenantId } from "../http/api-env.ts";
import { commonProblems, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { serviceParameters } from "../http/parameters.ts";
import { readers } from "../http/security.ts";

export const listDemandsRoute = createRoute({
  method: "get",
  path: "/v1/services/{name}/demands",
  operationId: "listDemands",
  tags: ["autoscaling"],
  summary: "List the demands of alerts for a service",
  description: "Newest first.",
  security: readers,
  request: { params: serviceParameters, query: pageQuery },
  responses: { 200: jsonResponse(pageOf(demandSchema), "One page of demands."), ...commonProblems },
});

export const listDemandsHandler: OperationHandler<typeof listDemandsRoute> = (ctx) => async (c) => {
  const { name } = c.req.valid("param");
  return c.json(await listDemands(ctx, getTenantId(c), name, c.req.valid("query")), 200);
};
