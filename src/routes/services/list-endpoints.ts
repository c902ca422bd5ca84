import { createRoute, z } from "@hono/zod-openapi";
import { endpointListSchema } from "../../contracts/api/endpoints.ts";
import { listEndpoints } from "../../control/services/list-endpoints.ts";
import { getTenantId } from "../http/api-env.ts";
import { commonProblems, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { serviceParameters } from "../http/parameters.ts";
import { readers } from "../http/security.ts";

export const listEndpointsRoute = createRoute({
  method: "get",
  path: "/v1/services/{name}/endpoints",
  operationId: "listEndpoints",
  tags: ["services"],
  summary: "List the endpoints of a service",
  description:
    "An endpoint is a ready set. A set leaves the list before it stops: with the order to stop, remove or move it, or when its replacement is available. It also leaves it when its host is lost or unhealthy. The ETag is the version of the list.",
  security: readers,
  request: {
    params: serviceParameters,
    headers: z.object({
      "if-none-match": z
        .string()
        .max(1_024)
        .optional()
        .describe("ETags that the caller has. The response is 304 if the list has one of them."),
    }),
  },
  responses: {
    200: jsonResponse(endpointListSchema, "The endpoints."),
    304: { description: "The list has not changed." },
    ...commonProblems,
  },
});

export const listEndpointsHandler: OperationHandler<typeof listEndpointsRoute> =
  (ctx) => async (c) => {
    const list = await listEndpoints(ctx, getTenantId(c), c.req.valid("param").name);
    const etag = `"${list.version}"`;
    if (hasEtag(c.req.valid("header")["if-none-match"], etag))
      return c.body(null, 304, { ETag: etag });
    return c.json(list, 200, { ETag: etag });
  };

/** Whether If-None-Match names the ETag. Proxies make ETags weak. */
function hasEtag(ifNoneMatch: string | undefined, etag: string): boolean {
  const tags = (ifNoneMatch ?? "").split(",").map((tag) => tag.trim().replace(/^W\//, ""));
  return tags.includes(etag);
}
