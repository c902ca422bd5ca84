import { createRoute } from "@hono/zod-openapi";
import { hostSchema } from "../../contracts/api/hosts.ts";
import { pageOf, pageQuery } from "../../contracts/common/primitives.ts";
import { listHosts } from "../../control/hosts/list-hosts.ts";
import { fleetReadersOnly } from "../http/fleet-readers-only.ts";
import { commonProblems, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { fleetReaders } from "../http/security.ts";

export const listHostsRoute = createRoute({
  method: "get",
  path: "/v1/hosts",
  operationId: "listHosts",
  tags: ["hosts"],
  summary: "List hosts",
  description: "The oldest host is first. Callers that are bound to a tenant have no access.",
  security: fleetReaders,
  request: { query: pageQuery },
  responses: { 200: jsonResponse(pageOf(hostSchema), "One page of hosts."), ...commonProblems },
});

export const listHostsHandler: OperationHandler<typeof listHostsRoute> = (ctx) => async (c) => {
  fleetReadersOnly(c);
  return c.json(await listHosts(ctx, c.req.valid("query")), 200);
};
