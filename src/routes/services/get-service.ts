import { createRoute } from "@hono/zod-openapi";
import { serviceSchema } from "../../contracts/services.ts";
import { getService } from "../../services/get-service.ts";
import { tenantIdOf } from "../api-env.ts";
import { etagOf } from "../conditions.ts";
import { commonProblems, jsonResponse, type OperationHandler } from "../operation.ts";
import { serviceParameters } from "../parameters.ts";
import { readers } from "../security.ts";

export const getServiceRoute = createRoute({
  method: "get",
  path: "/v1/services/{name}",
  operationId: "getService",
  tags: ["services"],
  summary: "Read a service",
  description: "With how many of its sets are in which state. The ETag is its generation.",
  security: readers,
  request: { params: serviceParameters },
  responses: { 200: jsonResponse(serviceSchema, "The service."), ...commonProblems },
});

export const getServiceHandler: OperationHandler<typeof getServiceRoute> = (ctx) => async (c) => {
  const service = await getService(ctx, tenantIdOf(c), c.req.valid("param").name);
  return c.json(service, 200, { ETag: etagOf(service) });
};
