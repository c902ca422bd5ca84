import { createRoute, type z } from "@hono/zod-openapi";
import type { Caller } from "../../contracts/api/caller.ts";
import { type RolloutChange, rolloutChangeSchema } from "../../contracts/api/rollout-answers.ts";
import type { ControlContext } from "../../control/runtime/context.ts";
import { getCaller, getTenantId } from "../http/api-env.ts";
import {
  bodyProblems,
  idempotentHeaders,
  jsonBody,
  jsonResponse,
  type OperationHandler,
} from "../http/operation.ts";
import { rolloutParameters } from "../http/parameters.ts";
import { problems } from "../http/problem.ts";
import { writers } from "../http/security.ts";

interface ActionDeclaration {
  /** Below `/v1/services/{name}/rollouts/{number}/`. */
  path: string;
  operationId: string;
  summary: string;
  description: string;
  body: z.ZodType;
}

interface ActionOptions<B extends z.ZodType> extends ActionDeclaration {
  body: B;
  run: (
    ctx: ControlContext,
    tenantId: string,
    name: string,
    request: { number: number; caller: Caller; body: z.output<B> },
  ) => Promise<RolloutChange>;
}

/** Defines a POST that changes a rollout: with Idempotency-Key, and the rollout as the response. */
export function defineRolloutAction<B extends z.ZodType>(options: ActionOptions<B>) {
  const route = createActionRoute(options);
  const handler: OperationHandler<typeof route> = (ctx) => async (c) => {
    const { name, number } = c.req.valid("param");
    // The route has parsed the body with `options.body`, but its type does not show that.
    const body = c.req.valid("json") as z.output<B>;
    const request = { number, caller: getCaller(c), body };
    return c.json(await options.run(ctx, getTenantId(c), name, request), 200);
  };
  return { route, handler };
}

function createActionRoute({ path, body, ...texts }: ActionDeclaration) {
  return createRoute({
    method: "post",
    path: `/v1/services/{name}/rollouts/{number}/${path}`,
    operationId: texts.operationId,
    tags: ["rollouts"],
    summary: texts.summary,
    description: texts.description,
    security: writers,
    request: {
      params: rolloutParameters,
      headers: idempotentHeaders,
      body: jsonBody(body),
    },
    responses: {
      200: jsonResponse(rolloutChangeSchema, "The rollout, and the effects."),
      ...bodyProblems,
      ...problems(
        "invalid-request",
        "state-conflict",
        "idempotency-conflict",
        "idempotency-in-progress",
      ),
    },
  });
}
