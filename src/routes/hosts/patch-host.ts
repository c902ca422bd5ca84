import { createRoute } from "@hono/zod-openapi";
import { hostSchema, patchHostBody } from "../../contracts/api/hosts.ts";
import { patchHost } from "../../control/hosts/patch-host.ts";
import { toEtag, parseIfMatch, ifMatchHeaders } from "../http/if-match.ts";
import { bodyProblems, jsonBody, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { hostParameters } from "../http/parameters.ts";
import { problems } from "../http/problem.ts";
import { operators } from "../http/security.ts";

export const patchHostRoute = createRoute({
  method: "patch",
  path: "/v1/hosts/{hostId}",
  operationId: "patchHost",
  tags: ["hosts"],
  summary: "Replace a host's labels, taints or group of gateways",
  description:
    "Absent members stay unchanged. Sets on the host stay. With If-Match, the change applies only to the generation that the caller has read.",
  security: operators,
  request: { params: hostParameters, headers: ifMatchHeaders, body: jsonBody(patchHostBody) },
  responses: {
    200: jsonResponse(hostSchema, "The host."),
    ...bodyProblems,
    ...problems("generation-mismatch"),
  },
});

export const patchHostHandler: OperationHandler<typeof patchHostRoute> = (ctx) => async (c) => {
  const generation = parseIfMatch(c.req.valid("header")["if-match"]);
  const host = await patchHost(ctx, c.req.valid("param").hostId, generation, c.req.valid("json"));
  return c.json(host, 200, { ETag: toEtag(host) });
};
