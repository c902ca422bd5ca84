import { createRoute } from "@hono/zod-openapi";
import { setSchema } from "../../contracts/api/sets.ts";
import { getSet } from "../../control/sets/get-set.ts";
import { toEtag } from "../http/if-match.ts";
import { commonProblems, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { setParameters } from "../http/parameters.ts";
import { readers } from "../http/security.ts";

export const getSetRoute = createRoute({
  method: "get",
  path: "/v1/sets/{setId}",
  operationId: "getSet",
  tags: ["sets"],
  summary: "Read a set",
  description: "Shows the last report of the agent of its host.",
  security: readers,
  request: { params: setParameters },
  responses: { 200: jsonResponse(setSchema, "The set."), ...commonProblems },
});

export const getSetHandler: OperationHandler<typeof getSetRoute> = (ctx) => async (c) => {
  const set = await getSet(ctx, c.get("scope"), c.req.valid("param").setId);
  return c.json(set, 200, { ETag: toEtag(set) });
};
