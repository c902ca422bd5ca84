import { createRoute } from "@hono/zod-openapi";
import { setExplanationSchema } from "../../contracts/api/sets.ts";
import { explainSet } from "../../control/sets/explain-set.ts";
import { commonProblems, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { setParameters } from "../http/parameters.ts";
import { readers } from "../http/security.ts";

export const explainSetRoute = createRoute({
  method: "get",
  path: "/v1/sets/{setId}/explain",
  operationId: "explainSet",
  tags: ["sets"],
  summary: "Explain why a set is on its host, or why it has none",
  security: readers,
  request: { params: setParameters },
  responses: {
    200: jsonResponse(setExplanationSchema, "The stored reasons, as data and as text."),
    ...commonProblems,
  },
});

export const explainSetHandler: OperationHandler<typeof explainSetRoute> = (ctx) => async (c) =>
  c.json(await explainSet(ctx, c.get("scope"), c.req.valid("param").setId), 200);
