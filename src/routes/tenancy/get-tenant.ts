import { createRoute } from "@hono/zod-openapi";
import { tenantDetailSchema } from "../../contracts/api/tenancy.ts";
import { getTenant } from "../../control/tenancy/get-tenant.ts";
import { toEtag } from "../http/if-match.ts";
import { commonProblems, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { tenantParameters } from "../http/parameters.ts";
import { readers } from "../http/security.ts";

export const getTenantRoute = createRoute({
  method: "get",
  path: "/v1/tenants/{name}",
  operationId: "getTenant",
  tags: ["access"],
  summary: "Read a tenant with its quota, grants and usage",
  description: "A token that is bound to a tenant reads that tenant only.",
  security: readers,
  request: { params: tenantParameters },
  responses: { 200: jsonResponse(tenantDetailSchema, "The tenant."), ...commonProblems },
});

export const getTenantHandler: OperationHandler<typeof getTenantRoute> = (ctx) => async (c) => {
  const tenant = await getTenant(ctx, c.get("scope"), c.req.valid("param").name);
  return c.json(tenant, 200, { ETag: toEtag(tenant) });
};
