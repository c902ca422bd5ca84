import { createRoute } from "@hono/zod-openapi";
import { createServiceBody, serviceChangeSchema } from "../../contracts/api/services.ts";
import { createService } from "../../control/services/create-service.ts";
import { getTenantId } from "../http/api-env.ts";
import { toEtag } from "../http/if-match.ts";
import {
  bodyProblems,
  idempotentHeaders,
  jsonBody,
  jsonResponse,
  type OperationHandler,
} from "../http/operation.ts";
import { problems } from "../http/problem.ts";
import { writers } from "../http/security.ts";

export const createServiceRoute = createRoute({
  method: "post",
  path: "/v1/services",
  operationId: "createService",
  tags: ["services"],
  summary: "Create a service",
  description:
    "Stores the service and its pending sets, and responds before they are placed. `GET /v1/services/{name}` shows their states; `wait` waits for them.",
  security: writers,
  request: { headers: idempotentHeaders, body: jsonBody(createServiceBody) },
  responses: {
    201: jsonResponse(serviceChangeSchema, "The service, and the effects."),
    ...bodyProblems,
    ...problems(
      "invalid-request",
      "unsupported",
      "quota-exceeded",
      "grant-missing",
      "already-exists",
      "idempotency-conflict",
      "idempotency-in-progress",
    ),
  },
});

export const createServiceHandler: OperationHandler<typeof createServiceRoute> =
  (ctx) => async (c) => {
    const change = await createService(ctx, getTenantId(c), c.req.valid("json"));
    return c.json(change, 201, {
      ETag: toEtag(change.service),
      Location: `/v1/services/${change.service.name}`,
    });
  };
