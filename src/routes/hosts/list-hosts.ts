import { createRoute } from "@hono/zod-openapi";
import { hostSchema } from "../../contracts/hosts.ts";
import { pageOf, pageQuery } from "../../contracts/primitives.ts";
import { listHosts } from "../../services/list-hosts.ts";
import { fleetReadersOnly } from "../fleet-readers-only.ts";
import { commonProblems, jsonResponse, type OperationHandler } from "../operation.ts";
import { fleetReaders } from "../security.ts";

export const listHostsRoute = createRoute({
  method: "get",
  path: "/v1/hosts",
  operationId: "listHosts",
  tags: ["hosts"],
  summary: "List hosts",
  description: "Oldest first. Not for callers that are bound to a tenant.",
  security: fleetReaders,
  request: { query: pageQuery },
  responses: { 200: jsonResponse(pageOf(hostSchema), "One page of hosts."), ...commonProblems },
});

export const listHostsHandler: OperationHandler<typeof listHostsRoute> = (ctx) => async (c) => {
  fleetReadersOnly(c);
  return c.json(await listHosts(ctx, c.req.valid("query")), 200);
};
