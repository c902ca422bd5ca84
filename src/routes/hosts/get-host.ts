import { createRoute } from "@hono/zod-openapi";
import { hostSchema } from "../../contracts/api/hosts.ts";
import { getHost } from "../../control/hosts/get-host.ts";
import { toEtag } from "../http/if-match.ts";
import { fleetReadersOnly } from "../http/fleet-readers-only.ts";
import { commonProblems, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { hostParameters } from "../http/parameters.ts";
import { fleetReaders } from "../http/security.ts";

export const getHostRoute = createRoute({
  method: "get",
  path: "/v1/hosts/{hostId}",
  operationId: "getHost",
  tags: ["hosts"],
  summary: "Read a host",
  description: "Includes its booked amounts and its last report.",
  security: fleetReaders,
  request: { params: hostParameters },
  responses: { 200: jsonResponse(hostSchema, "The host."), ...commonProblems },
});

export const getHostHandler: OperationHandler<typeof getHostRoute> = (ctx) => async (c) => {
  fleetReadersOnly(c);
  const host = await getHost(ctx, c.req.valid("param").hostId);
  return c.json(host, 200, { ETag: toEtag(host) });
};
