import { createRoute } from "@hono/zod-openapi";
import { setSchema } from "../../contracts/api/sets.ts";
import { deleteSet } from "../../control/sets/delete-set.ts";
import { commonProblems, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { setParameters } from "../http/parameters.ts";
import { problems } from "../http/problem.ts";
import { writers } from "../http/security.ts";

export const deleteSetRoute = createRoute({
  method: "delete",
  path: "/v1/sets/{setId}",
  operationId: "deleteSet",
  tags: ["sets"],
  summary: "Remove a set",
  description: "The number of replicas stays, so Berth creates another set.",
  security: writers,
  request: { params: setParameters },
  responses: {
    202: jsonResponse(setSchema, "The set before its removal."),
    ...commonProblems,
    ...problems("state-conflict"),
  },
});

export const deleteSetHandler: OperationHandler<typeof deleteSetRoute> = (ctx) => async (c) =>
  c.json(await deleteSet(ctx, c.get("scope"), c.req.valid("param").setId), 202);
