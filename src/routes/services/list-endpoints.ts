import { createRoute, z } from "@hono/zod-openapi";
import { endpointListSchema } from "../../contracts/api/endpoints.ts";
import type { EndpointFeeds } from "../../control/services/endpoint-feeds.ts";
import { listEndpoints } from "../../control/services/list-endpoints.ts";
import { getTenantId } from "../http/api-env.ts";
import { acceptsStream, answerWithStream, type StreamingApi } from "../http/event-stream.ts";
import { commonProblems, type OperationHandler } from "../http/operation.ts";
import { serviceParameters } from "../http/parameters.ts";
import { problems } from "../http/problem.ts";
import { readers } from "../http/security.ts";
import { streamEndpoints } from "./stream-endpoints.ts";

export const listEndpointsRoute = createRoute({
  method: "get",
  path: "/v1/services/{name}/endpoints",
  operationId: "listEndpoints",
  tags: ["services"],
  summary: "List the endpoints of a service, or stream the lists",
  description:
    "An endpoint is a ready set. A set leaves the list before it stops: with the order to stop, remove or move it, or when its replacement is available. It also leaves it when its host is lost or unhealthy. The ETag is the version of the list. With `Accept: text/event-stream` the response is a stream: an event `endpoints` has the whole list, and each change is another one. Its id is the version. A stream ends after ten minutes, or when the service is deleted: reconnect.",
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
    200: {
      description: "The endpoints, or a stream of all lists from the present one on.",
      content: {
        "application/json": { schema: endpointListSchema },
        "text/event-stream": { schema: z.string() },
      },
    },
    304: { description: "The list has not changed." },
    ...commonProblems,
    ...problems("rate-limited"),
  },
});

/** @param feeds shared by all streams of the process */
export function createListEndpointsHandler(
  feeds: EndpointFeeds,
  api: StreamingApi,
): OperationHandler<typeof listEndpointsRoute> {
  return (ctx) => async (c) => {
    const { name } = c.req.valid("param");
    const tenantId = getTenantId(c);
    if (acceptsStream(c))
      return answerWithStream(api, c, (signal, limits) =>
        streamEndpoints(feeds, tenantId, name, signal, limits),
      );
    const list = await listEndpoints(ctx, tenantId, name);
    const etag = `"${list.version}"`;
    if (hasEtag(c.req.valid("header")["if-none-match"], etag))
      return c.body(null, 304, { ETag: etag });
    return c.json(list, 200, { ETag: etag });
  };
}

/** Whether If-None-Match names the ETag. Proxies make ETags weak. */
function hasEtag(ifNoneMatch: string | undefined, etag: string): boolean {
  const tags = (ifNoneMatch ?? "").split(",").map((tag) => tag.trim().replace(/^W\//, ""));
  return tags.includes(etag);
}
