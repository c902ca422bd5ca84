import { createRoute } from "@hono/zod-openapi";
import { waitRolloutQuery, waitRolloutResult } from "../../contracts/api/rollout-answers.ts";
import { waitRollout } from "../../control/rollouts/wait-rollout.ts";
import { getTenantId } from "../http/api-env.ts";
import { commonProblems, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { rolloutParameters } from "../http/parameters.ts";
import { problems } from "../http/problem.ts";
import { readers } from "../http/security.ts";

export const waitRolloutRoute = createRoute({
  method: "get",
  path: "/v1/services/{name}/rollouts/{number}/wait",
  operationId: "waitRollout",
  tags: ["rollouts"],
  summary: "Wait until a rollout has ended, or stands still",
  description: "The status is 200 even after the timeout: see `reached`.",
  security: readers,
  request: { params: rolloutParameters, query: waitRolloutQuery },
  responses: {
    200: jsonResponse(waitRolloutResult, "The rollout at the end of the wait."),
    ...commonProblems,
    ...problems("rate-limited"),
  },
});

export const waitRolloutHandler: OperationHandler<typeof waitRolloutRoute> = (ctx) => async (c) => {
  const { name, number } = c.req.valid("param");
  const query = { ...c.req.valid("query"), number };
  return c.json(await waitRollout(ctx, getTenantId(c), name, query, c.req.raw.signal), 200);
};
