import { createRoute } from "@hono/zod-openapi";
import { pageOf } from "../../contracts/primitives.ts";
import { listSetsQuery, setSchema } from "../../contracts/sets.ts";
import { listSets } from "../../services/list-sets.ts";
import { commonProblems, jsonResponse, type OperationHandler } from "../operation.ts";
import { readers } from "../security.ts";

export const listSetsRoute = createRoute({
  method: "get",
  path: "/v1/sets",
  operationId: "listSets",
  tags: ["sets"],
  summary: "List sets",
  description: "Oldest first; deleted ones are not listed.",
  security: readers,
  request: { query: listSetsQuery },
  responses: { 200: jsonResponse(pageOf(setSchema), "One page of sets."), ...commonProblems },
});

export const listSetsHandler: OperationHandler<typeof listSetsRoute> = (ctx) => async (c) =>
  c.json(await listSets(ctx, c.get("scope"), c.req.valid("query")), 200);
