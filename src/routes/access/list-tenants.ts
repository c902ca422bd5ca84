import { createRoute } from "@hono/zod-openapi";
import { tenantSchema } from "../../contracts/access.ts";
import { pageOf, pageQuery } from "../../contracts/primitives.ts";
import { listTenants } from "../../services/list-tenants.ts";
import { commonProblems, jsonResponse, type OperationHandler } from "../operation.ts";
import { operators } from "../security.ts";

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
