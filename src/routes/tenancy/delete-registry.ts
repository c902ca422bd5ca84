import { createRoute } from "@hono/zod-openapi";
import { deleteRegistry } from "../../control/tenancy/delete-registry.ts";
import { getTenantId } from "../http/api-env.ts";
import { commonProblems, type OperationHandler } from "../http/operation.ts";
import { registryParameters } from "../http/parameters.ts";
import { writers } from "../http/security.ts";

export const deleteRegistryRoute = createRoute({
  method: "delete",
  path: "/v1/registries/{registry}",
  operationId: "deleteRegistry",
  tags: ["registries"],
  summary: "Delete the credential of a registry",
  description: "Hosts pull anonymously from then on. Containers and images on hosts stay.",
  security: writers,
  request: { params: registryParameters },
  responses: { 204: { description: "The credential is deleted." }, ...commonProblems },
});

export const deleteRegistryHandler: OperationHandler<typeof deleteRegistryRoute> =
  (ctx) => async (c) => {
    await deleteRegistry(ctx, getTenantId(c), c.req.valid("param").registry);
    return c.body(null, 204);
  };
