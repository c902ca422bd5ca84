import { createRoute } from "@hono/zod-openapi";
import { serviceSchema } from "../../contracts/api/services.ts";
import { createServiceReader } from "../../control/services/get-service.ts";
import { getCaller, getTenantId } from "../http/api-env.ts";
import { toEtag } from "../http/if-match.ts";
import { commonProblems, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { serviceParameters } from "../http/parameters.ts";
import { readers } from "../http/security.ts";
import { redactService } from "./redact-service.ts";

export const getServiceRoute = createRoute({
  method: "get",
  path: "/v1/services/{name}",
  operationId: "getService",
  tags: ["services"],
  summary: "Read a service",
  description: "Includes the number of sets in each state. The ETag is the generation.",
  security: readers,
  request: { params: serviceParameters },
  responses: { 200: jsonResponse(serviceSchema, "The service."), ...commonProblems },
});

export const getServiceHandler: OperationHandler<typeof getServiceRoute> = (ctx) => {
  const readService = createServiceReader(ctx);
  return async (c) => {
    const service = await readService(getTenantId(c), c.req.valid("param").name);
    return c.json(redactService(service, getCaller(c)), 200, { ETag: toEtag(service) });
  };
};
