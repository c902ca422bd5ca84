import { createRoute, type z } from "@hono/zod-openapi";
import type { ProblemCode } from "../../contracts/common/problems.ts";
import { type ServiceChange, serviceChangeSchema } from "../../contracts/api/services.ts";
import type { ControlContext } from "../../control/runtime/context.ts";
import { getTenantId } from "../http/api-env.ts";
import { toEtag, parseIfMatch } from "../http/if-match.ts";
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

interface ChangeDeclaration {
  /** Below `/v1/services/{name}/`. */
  path: string;
  operationId: string;
  summary: string;
  description: string;
  body: z.ZodType;
  /** The problems of this operation, besides those of every change of a service. */
  problemCodes: readonly ProblemCode[];
}

interface ServiceChangeOptions<B extends z.ZodType> extends ChangeDeclaration {
  body: B;
  /** @param generation the generation in If-Match; undefined matches every generation */
  run: (
    ctx: ControlContext,
    tenantId: string,
    name: string,
    body: z.output<B>,
    generation: number | undefined,
  ) => Promise<ServiceChange>;
}

/**
 * Defines a POST that changes a service: with Idempotency-Key, an optional If-Match, and a response
 * that has the service, its ETag and the effects.
 */
export function defineServiceChange<B extends z.ZodType>(options: ServiceChangeOptions<B>) {
  const route = createChangeRoute(options);
  const handler: OperationHandler<typeof route> = (ctx) => async (c) => {
    const generation = parseIfMatch(c.req.valid("header")["if-match"]);
    const { name } = c.req.valid("param");
    // The route has parsed the body with `options.body`, but its type does not show that.
    const body = c.req.valid("json") as z.output<B>;
    const change = await options.run(ctx, getTenantId(c), name, body, generation);
    return c.json(change, 200, { ETag: toEtag(change.service) });
  };
  return { route, handler };
}

function createChangeRoute({ path, body, problemCodes, ...texts }: ChangeDeclaration) {
  return createRoute({
    method: "post",
    path: `/v1/services/{name}/${path}`,
    operationId: texts.operationId,
    tags: ["services"],
    summary: texts.summary,
    description: texts.description,
    security: writers,
    request: {
      params: serviceParameters,
      headers: idempotentChangeHeaders,
      body: jsonBody(body),
    },
    responses: {
      200: jsonResponse(serviceChangeSchema, "The service, and the effects."),
      ...bodyProblems,
      ...problems(
        "invalid-request",
        ...problemCodes,
        "generation-mismatch",
        "state-conflict",
        "idempotency-conflict",
        "idempotency-in-progress",
      ),
    },
  });
}
