import { createRoute } from "@hono/zod-openapi";
import { networkAddressSchema } from "../../contracts/api/networks.ts";
import { pageOf, pageQuery } from "../../contracts/common/primitives.ts";
import { listNetworkAddresses } from "../../control/networks/list-network-addresses.ts";
import { getTenantId } from "../http/api-env.ts";
import { commonProblems, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { networkParameters } from "../http/parameters.ts";
import { readers } from "../http/security.ts";

export const listNetworkAddressesRoute = createRoute({
  method: "get",
  path: "/v1/networks/{name}/addresses",
  operationId: "listNetworkAddresses",
  tags: ["networks"],
  summary: "List the addresses of a network that sets and services have, or had until recently",
  security: readers,
  request: { params: networkParameters, query: pageQuery },
  responses: {
    200: jsonResponse(pageOf(networkAddressSchema), "One page of addresses."),
    ...commonProblems,
  },
});

export const listNetworkAddressesHandler: OperationHandler<typeof listNetworkAddressesRoute> =
  (ctx) => async (c) => {
    const { name } = c.req.valid("param");
    return c.json(await listNetworkAddresses(ctx, getTenantId(c), name, c.req.valid("query")), 200);
  };
