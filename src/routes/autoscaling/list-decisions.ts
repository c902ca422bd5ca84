import { createRoute } from "@hono/zod-openapi";
import { decisionSchema, listDecisionsQuery } from "../../contracts/api/autoscaling.ts";
import { pageOf } from "../../contracts/common/primitives.ts";
import { listDecisions } from "../../control/autoscaling/list-decisions.ts";
import { commonProblems, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { readers } from "../http/security.ts";

export const listDecisionsRoute = createRoute({
  method: "get",
  path: "/v1/decisions",
  operationId: "listDecisions",
  tags: ["autoscaling"],
  summary: "List decisions about the size of services",
  description: "Newest first, each with its reasons; also those that changed nothing.",
  security: readers,
  request: { query: listDecisionsQuery },
  responses: {
    200: jsonResponse(pageOf(decisionSchema), "One page of decisions."),
    ...commonProblems,
  },
});

export const listDecisionsHandler: OperationHandler<typeof listDecisionsRoute> =
  (ctx) => async (c) =>
    c.json(await listDecisions(ctx, c.get("scope"), c.req.valid("query")), 200);
