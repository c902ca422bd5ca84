import { createRoute } from "@hono/zod-openapi";
import { registrySchema } from "../../contracts/api/registries.ts";
import { pageOf, pageQuery } from "../../contracts/common/primitives.ts";
import { listRegistries } from "../../control/tenancy/list-registries.ts";
import { commonProblems, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { readers } from "../http/security.ts";

export const listRegistriesRoute = createRoute({
  method: "get",
  path: "/v1/registries",
  operationId: "listRegistries",
  tags: ["registries"],
  summary: "List the registries with a stored credential, without passwords",
  security: readers,
  request: { query: pageQuery },
  responses: {
    200: jsonResponse(pageOf(registrySchema), "One page of registries."),
    ...commonProblems,
  },
});

export const listRegistriesHandler: OperationHandler<typeof listRegistriesRoute> =
  (ctx) => async (c) =>
    c.json(await listRegistries(ctx, c.get("scope"), c.req.valid("query")), 200);
