import { createRoute } from "@hono/zod-openapi";
import { waitSetQuery, waitSetResult } from "../../contracts/api/sets.ts";
import { waitSet } from "../../control/sets/wait-set.ts";
import { commonProblems, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { setParameters } from "../http/parameters.ts";
import { problems } from "../http/problem.ts";
import { readers } from "../http/security.ts";

export const waitSetRoute = createRoute({
  method: "get",
  path: "/v1/sets/{setId}/wait",
  operationId: "waitSet",
  tags: ["sets"],
  summary: "Wait until a set is in a state",
  description: "The status is 200 even after the timeout: see `reached`.",
  security: readers,
  request: { params: setParameters, query: waitSetQuery },
  responses: {
    200: jsonResponse(waitSetResult, "The set at the end of the wait."),
    ...commonProblems,
    ...problems("rate-limited"),
  },
});

export const waitSetHandler: OperationHandler<typeof waitSetRoute> = (ctx) => async (c) => {
  const { setId } = c.req.valid("param");
  const query = c.req.valid("query");
  const state = query.for ?? query.state ?? "running";
  const { timeoutSeconds } = query;
  const { signal } = c.req.raw;
  return c.json(await waitSet(ctx, c.get("scope"), setId, { state, timeoutSeconds }, signal), 200);
};
