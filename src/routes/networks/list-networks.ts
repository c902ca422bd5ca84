import { createRoute } from "@hono/zod-openapi";
import { networkSchema } from "../../contracts/api/networks.ts";
import { pageOf, pageQuery } from "../../contracts/common/primitives.ts";
import { listNetworks } from "../../control/networks/list-networks.ts";
import { commonProblems, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { readers } from "../http/security.ts";

export const listNetworksRoute = createRoute({
  method: "get",
  path: "/v1/networks",
  operationId: "listNetworks",
  tags: ["networks"],
  summary: "List networks, with the address counts of each subnet",
  security: readers,
  request: { query: pageQuery },
  responses: {
    200: jsonResponse(pageOf(networkSchema), "One page of networks."),
    ...commonProblems,
  },
});

export const listNetworksHandler: OperationHandler<typeof listNetworksRoute> = (ctx) => async (c) =>
  c.json(await listNetworks(ctx, c.get("scope"), c.req.valid("query")), 200);
