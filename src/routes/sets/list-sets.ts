import { createRoute } from "@hono/zod-openapi";
import { pageOf } from "../../contracts/common/primitives.ts";
import { listSetsQuery, setSchema } from "../../contracts/api/sets.ts";
import { listSets } from "../../control/sets/list-sets.ts";
import { commonProblems, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { readers } from "../http/security.ts";

export const listSetsRoute = createRoute({
  method: "get",
  path: "/v1/sets",
  operationId: "listSets",
  tags: ["sets"],
  summary: "List sets",
  description: "The oldest set is first. The list has no deleted sets.",
  security: readers,
  request: { query: listSetsQuery },
  responses: { 200: jsonResponse(pageOf(setSchema), "One page of sets."), ...commonProblems },
});

export const listSetsHandler: OperationHandler<typeof listSetsRoute> = (ctx) => async (c) =>
  c.json(await listSets(ctx, c.get("scope"), c.req.valid("query")), 200);
