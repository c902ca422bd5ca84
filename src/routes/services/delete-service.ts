import { createRoute } from "@hono/zod-openapi";
import { serviceChangeSchema } from "../../contracts/api/services.ts";
import { deleteService } from "../../control/services/delete-service.ts";
import { getTenantId } from "../http/api-env.ts";
import { parseIfMatch, ifMatchHeaders } from "../http/if-match.ts";
import { commonProblems, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { serviceParameters } from "../http/parameters.ts";
import { problems } from "../http/problem.ts";
import { writers } from "../http/security.ts";

export const deleteServiceRoute = createRoute({
  method: "delete",
  path: "/v1/services/{name}",
  operationId: "deleteService",
  tags: ["services"],
  summary: "Delete a service",
  description:
    "Stops and removes its sets. The service is deleted with its last set; `wait?for=deleted` waits for that.",
  security: writers,
  request: { params: serviceParameters, headers: ifMatchHeaders },
  responses: {
    202: jsonResponse(serviceChangeSchema, "The service before the change, and the effects."),
    ...commonProblems,
    ...problems("generation-mismatch"),
  },
});

export const deleteServiceHandler: OperationHandler<typeof deleteServiceRoute> =
  (ctx) => async (c) => {
    const generation = parseIfMatch(c.req.valid("header")["if-match"]);
    const { name } = c.req.valid("param");
    return c.json(await deleteService(ctx, getTenantId(c), name, generation), 202);
  };
