import { createRoute } from "@hono/zod-openapi";
import { scaleServiceBody, serviceChangeSchema } from "../../contracts/api/services.ts";
import { scaleService } from "../../control/services/scale-service.ts";
import { tenantIdOf } from "../http/api-env.ts";
import { etagOf, generationOf } from "../http/if-match.ts";
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

export const scaleServiceRoute = createRoute({
  method: "post",
  path: "/v1/services/{name}/scale",
  operationId: "scaleService",
  tags: ["services"],
  summary: "Set the number of sets of a service",
  description: "The number is absolute, so a repeated request changes nothing.",
  security: writers,
  request: {
    params: serviceParameters,
    headers: idempotentChangeHeaders,
    body: jsonBody(scaleServiceBody),
  },
  responses: {
    200: jsonResponse(serviceChangeSchema, "The service, and the effects."),
    ...bodyProblems,
    ...problems(
      "invalid-request",
      "quota-exceeded",
      "grant-missing",
      "generation-mismatch",
      "state-conflict",
      "idempotency-conflict",
      "idempotency-in-progress",
    ),
  },
});

export const scaleServiceHandler: OperationHandler<typeof scaleServiceRoute> =
  (ctx) => async (c) => {
    const generation = generationOf(c.req.valid("header")["if-match"]);
    const { name } = c.req.valid("param");
    const change = await scaleService(ctx, tenantIdOf(c), name, c.req.valid("json"), generation);
    return c.json(change, 200, { ETag: etagOf(change.service) });
  };
