import { createRoute } from "@hono/zod-openapi";
import { createTenantBody, tenantSchema } from "../../contracts/api/tenancy.ts";
import { createTenant } from "../../control/tenancy/create-tenant.ts";
import {
  bodyProblems,
  idempotentHeaders,
  jsonBody,
  jsonResponse,
  type OperationHandler,
} from "../http/operation.ts";
import { problems } from "../http/problem.ts";
import { admins } from "../http/security.ts";

export const createTenantRoute = createRoute({
  method: "post",
  path: "/v1/tenants",
  operationId: "createTenant",
  tags: ["access"],
  summary: "Create a tenant",
  security: admins,
  request: { headers: idempotentHeaders, body: jsonBody(createTenantBody) },
  responses: {
    201: jsonResponse(tenantSchema, "The tenant."),
    ...bodyProblems,
    ...problems("already-exists", "idempotency-conflict", "idempotency-in-progress"),
  },
});

export const createTenantHandler: OperationHandler<typeof createTenantRoute> = (ctx) => async (c) =>
  c.json(await createTenant(ctx, c.req.valid("json")), 201);
