import { createRoute } from "@hono/zod-openapi";
import { patchTenantBody, tenantChangeSchema } from "../../contracts/api/tenancy.ts";
import { patchTenant } from "../../control/tenancy/patch-tenant.ts";
import { toEtag, parseIfMatch, ifMatchHeaders } from "../http/if-match.ts";
import { bodyProblems, jsonBody, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { tenantParameters } from "../http/parameters.ts";
import { problems } from "../http/problem.ts";
import { admins } from "../http/security.ts";

export const patchTenantRoute = createRoute({
  method: "patch",
  path: "/v1/tenants/{name}",
  operationId: "patchTenant",
  tags: ["access"],
  summary: "Change the quota and the grants of a tenant",
  description:
    "Absent members stay unchanged, and a list replaces the previous list. With If-Match, the change applies only to the generation that the caller has read. Existing services keep running.",
  security: admins,
  request: { params: tenantParameters, headers: ifMatchHeaders, body: jsonBody(patchTenantBody) },
  responses: {
    200: jsonResponse(tenantChangeSchema, "The tenant, and the consequences."),
    ...bodyProblems,
    ...problems("generation-mismatch"),
  },
});

export const patchTenantHandler: OperationHandler<typeof patchTenantRoute> = (ctx) => async (c) => {
  const generation = parseIfMatch(c.req.valid("header")["if-match"]);
  const { name } = c.req.valid("param");
  const change = await patchTenant(ctx, name, generation, c.req.valid("json"));
  return c.json(change, 200, { ETag: toEtag(change.tenant) });
};
