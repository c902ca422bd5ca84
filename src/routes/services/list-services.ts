import { createRoute } from "@hono/zod-openapi";
import { pageOf, pageQuery } from "../../contracts/common/primitives.ts";
import { serviceSchema } from "../../contracts/api/services.ts";
import { listServices } from "../../control/services/list-services.ts";
import { getCaller } from "../http/api-env.ts";
import { commonProblems, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { readers } from "../http/security.ts";
import { redactService } from "./redact-service.ts";

export const listServicesRoute = createRoute({
  method: "get",
  path: "/v1/services",
  operationId: "listServices",
  tags: ["services"],
  summary: "List services",
  description:
    "The oldest service is first. Callers without a tenant see all tenants unless they send Berth-Tenant.",
  security: readers,
  request: { query: pageQuery },
  responses: {
    200: jsonResponse(pageOf(serviceSchema), "One page of services."),
    ...commonProblems,
  },
});

export const listServicesHandler: OperationHandler<typeof listServicesRoute> =
  (ctx) => async (c) => {
    const caller = getCaller(c);
    const page = await listServices(ctx, c.get("scope"), c.req.valid("query"));
    const items = page.items.map((service) => redactService(service, caller));
    return c.json({ ...page, items }, 200);
  };
