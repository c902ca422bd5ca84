import { createRoute } from "@hono/zod-openapi";
import { rolloutChangeSchema } from "../../contracts/api/rollout-answers.ts";
import { createRolloutBody } from "../../contracts/api/rollout-requests.ts";
import { createRollout } from "../../control/rollouts/create-rollout.ts";
import { getCaller, getTenantId } from "../http/api-env.ts";
import { parseIfMatch } from "../http/if-match.ts";
import {
  bodyProblems,
  idempotentChangeHeaders,
  jsonBody,
  jsonResponse,
  type OperationHandler,
} from "../http/operation.ts";
import { serviceParameters } from "../http/parameters.ts";
import { problems } from "../http/problem.ts";
import { writers } from "../http/security.ts";

export const createRolloutRoute = createRoute({
  method: "post",
  path: "/v1/services/{name}/rollouts",
  operationId: "createRollout",
  tags: ["rollouts"],
  summary: "Change the sets of a service step by step",
  description:
    "Starts a rollout, which gives existing sets another revision within the disruption budget of the service. The response lists the effects.",
  security: writers,
  request: {
    params: serviceParameters,
    headers: idempotentChangeHeaders,
    body: jsonBody(createRolloutBody),
  },
  responses: {
    202: jsonResponse(rolloutChangeSchema, "The rollout, and the effects."),
    ...bodyProblems,
    ...problems(
      "invalid-request",
      "unsupported",
      "quota-exceeded",
      "generation-mismatch",
      "state-conflict",
      "idempotency-conflict",
      "idempotency-in-progress",
    ),
  },
});

export const createRolloutHandler: OperationHandler<typeof createRolloutRoute> =
  (ctx) => async (c) => {
    const generation = parseIfMatch(c.req.valid("header")["if-match"]);
    const { name } = c.req.valid("param");
    const request = { body: c.req.valid("json"), caller: getCaller(c), generation };
    return c.json(await createRollout(ctx, getTenantId(c), name, request), 202);
  };
