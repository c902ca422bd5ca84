import { createRoute } from "@hono/zod-openapi";
import { waitServiceQuery, waitServiceResult } from "../../contracts/api/services.ts";
import { waitService } from "../../control/services/wait-service.ts";
import { getCaller, getTenantId } from "../http/api-env.ts";
import { commonProblems, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { serviceParameters } from "../http/parameters.ts";
import { problems } from "../http/problem.ts";
import { readers } from "../http/security.ts";
import { redactService } from "./redact-service.ts";

export const waitServiceRoute = createRoute({
  method: "get",
  path: "/v1/services/{name}/wait",
  operationId: "waitService",
  tags: ["services"],
  summary: "Wait until a service is settled or deleted",
  description: "The status is 200 even after the timeout: see `reached`.",
  security: readers,
  request: { params: serviceParameters, query: waitServiceQuery },
  responses: {
    200: jsonResponse(waitServiceResult, "The service at the end of the wait."),
    ...commonProblems,
    ...problems("rate-limited"),
  },
});

export const waitServiceHandler: OperationHandler<typeof waitServiceRoute> = (ctx) => async (c) => {
  const { name } = c.req.valid("param");
  const query = c.req.valid("query");
  const result = await waitService(ctx, getTenantId(c), name, query, c.req.raw.signal);
  const service = result.service && redactService(result.service, getCaller(c));
  return c.json({ ...result, service }, 200);
};
