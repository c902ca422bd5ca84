import { createRoute } from "@hono/zod-openapi";
import { putRegistryBody, registrySchema } from "../../contracts/api/registries.ts";
import { putRegistry } from "../../control/tenancy/put-registry.ts";
import { getTenantId } from "../http/api-env.ts";
import { bodyProblems, jsonBody, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { registryParameters } from "../http/parameters.ts";
import { problems } from "../http/problem.ts";
import { writers } from "../http/security.ts";

export const putRegistryRoute = createRoute({
  method: "put",
  path: "/v1/registries/{registry}",
  operationId: "putRegistry",
  tags: ["registries"],
  summary: "Store the credential of a private registry, or replace it",
  description:
    "Hosts pull the tenant's images from this registry with the credential, from their next pull on. Containers are not restarted. The password is encrypted, and no response contains it.",
  security: writers,
  request: { params: registryParameters, body: jsonBody(putRegistryBody) },
  responses: {
    200: jsonResponse(registrySchema, "The registry, without the password."),
    ...bodyProblems,
    ...problems("state-conflict", "encryption-key-missing"),
  },
});

export const putRegistryHandler: OperationHandler<typeof putRegistryRoute> = (ctx) => async (c) => {
  const { registry } = c.req.valid("param");
  return c.json(await putRegistry(ctx, getTenantId(c), registry, c.req.valid("json")), 200);
};
