import { createRoute } from "@hono/zod-openapi";
import { rolloutSchema } from "../../contracts/api/rollout-answers.ts";
import { getRollout } from "../../control/rollouts/get-rollout.ts";
import { getTenantId } from "../http/api-env.ts";
import { commonProblems, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { rolloutParameters } from "../http/parameters.ts";
import { readers } from "../http/security.ts";

export const getRolloutRoute = createRoute({
  method: "get",
  path: "/v1/services/{name}/rollouts/{number}",
  operationId: "getRollout",
  tags: ["rollouts"],
  summary: "Read a rollout",
  description: "With the counts of its sets, and the sets whose update is in progress or failed.",
  security: readers,
  request: { params: rolloutParameters },
  responses: { 200: jsonResponse(rolloutSchema, "The rollout."), ...commonProblems },
});

export const getRolloutHandler: OperationHandler<typeof getRolloutRoute> = (ctx) => async (c) => {
  const { name, number } = c.req.valid("param");
  return c.json(await getRollout(ctx, getTenantId(c), name, number), 200);
};
