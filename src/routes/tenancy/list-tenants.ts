import { createRoute } from "@hono/zod-openapi";
import { tenantSchema } from "../../contracts/api/tenancy.ts";
import { pageOf, pageQuery } from "../../contracts/common/primitives.ts";
import { listTenants } from "../../control/tenancy/list-tenants.ts";
import { commonProblems, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { operators } from "../http/security.ts";

export const listTenantsRoute = createRoute({
  method: "get",
  path: "/v1/tenants",
  operationId: "listTenants",
  tags: ["access"],
  summary: "List tenants",
  security: operators,
  request: { query: pageQuery },
  responses: { 200: jsonResponse(pageOf(tenantSchema), "One page of tenants."), ...commonProblems },
});

export const listTenantsHandler: OperationHandler<typeof listTenantsRoute> = (ctx) => async (c) =>
  c.json(await listTenants(ctx, c.req.valid("query")), 200);
