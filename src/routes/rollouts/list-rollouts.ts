import { createRoute } from "@hono/zod-openapi";
import { pageQuery } from "../../contracts/common/primitives.ts";
import { rolloutPage } from "../../contracts/api/rollout-answers.ts";
import { listRollouts } from "../../control/rollouts/list-rollouts.ts";
import { getTenantId } from "../http/api-env.ts";
import { commonProblems, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { serviceParameters } from "../http/parameters.ts";
import { readers } from "../http/security.ts";

export const listRolloutsRoute = createRoute({
  method: "get",
  path: "/v1/services/{name}/rollouts",
  operationId: "listRollouts",
  tags: ["rollouts"],
  summary: "List the rollouts of a service",
  description: "The newest rollout is first.",
  security: readers,
  request: { params: serviceParameters, query: pageQuery },
  responses: { 200: jsonResponse(rolloutPage, "One page of rollouts."), ...commonProblems },
});

export const listRolloutsHandler: OperationHandler<typeof listRolloutsRoute> =
  (ctx) => async (c) => {
    const { name } = c.req.valid("param");
    return c.json(await listRollouts(ctx, getTenantId(c), name, c.req.valid("query")), 200);
  };
