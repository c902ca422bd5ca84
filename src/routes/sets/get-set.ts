import { createRoute } from "@hono/zod-openapi";
import { setSchema } from "../../contracts/sets.ts";
import { getSet } from "../../services/get-set.ts";
import { etagOf } from "../conditions.ts";
import { commonProblems, jsonResponse, type OperationHandler } from "../operation.ts";
import { setParameters } from "../parameters.ts";
import { readers } from "../security.ts";

export const getSetRoute = createRoute({
  method: "get",
  path: "/v1/sets/{setId}",
  operationId: "getSet",
  tags: ["sets"],
  summary: "Read a set",
  description: "As its host's agent last reported it.",
  security: readers,
  request: { params: setParameters },
  responses: { 200: jsonResponse(setSchema, "The set."), ...commonProblems },
});

export const getSetHandler: OperationHandler<typeof getSetRoute> = (ctx) => async (c) => {
  const set = await getSet(ctx, c.get("scope"), c.req.valid("param").setId);
  return c.json(set, 200, { ETag: etagOf(set) });
};
