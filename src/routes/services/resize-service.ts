import { createRoute } from "@hono/zod-openapi";
import { resizeServiceBody, serviceChangeSchema } from "../../contracts/api/services.ts";
import { resizeService } from "../../control/services/resize-service.ts";
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

export const resizeServiceRoute = createRoute({
  method: "post",
  path: "/v1/services/{name}/resize",
  operationId: "resizeService",
  tags: ["services"],
  summary: "Change the size of the sets of a service without a restart",
  description:
    "Changes CPU and memory, and enlarges volumes. Berth books the new size of all sets or of none. Then the agent of each host changes the running sets.",
  security: writers,
  request: {
    params: serviceParameters,
    headers: idempotentChangeHeaders,
    body: jsonBody(resizeServiceBody),
  },
  responses: {
    200: jsonResponse(serviceChangeSchema, "The service, and the effects."),
    ...bodyProblems,
    ...problems(
      "invalid-request",
      "quota-exceeded",
      "generation-mismatch",
      "state-conflict",
      "capacity-insufficient",
      "idempotency-conflict",
      "idempotency-in-progress",
    ),
  },
});

export const resizeServiceHandler: OperationHandler<typeof resizeServiceRoute> =
  (ctx) => async (c) => {
    const generation = generationOf(c.req.valid("header")["if-match"]);
    const { name } = c.req.valid("param");
    const change = await resizeService(ctx, tenantIdOf(c), name, c.req.valid("json"), generation);
    return c.json(change, 200, { ETag: etagOf(change.service) });
  };
