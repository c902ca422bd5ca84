import { createRoute } from "@hono/zod-openapi";
import { networkSchema } from "../../contracts/api/networks.ts";
import { getNetwork } from "../../control/networks/get-network.ts";
import { getTenantId } from "../http/api-env.ts";
import { toEtag } from "../http/if-match.ts";
import { commonProblems, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { networkParameters } from "../http/parameters.ts";
import { readers } from "../http/security.ts";

export const getNetworkRoute = createRoute({
  method: "get",
  path: "/v1/networks/{name}",
  operationId: "getNetwork",
  tags: ["networks"],
  summary: "Read a network",
  description: "Includes the address counts of each subnet. The ETag is the generation.",
  security: readers,
  request: { params: networkParameters },
  responses: { 200: jsonResponse(networkSchema, "The network."), ...commonProblems },
});

export const getNetworkHandler: OperationHandler<typeof getNetworkRoute> = (ctx) => async (c) => {
  const network = await getNetwork(ctx, getTenantId(c), c.req.valid("param").name);
  return c.json(network, 200, { ETag: toEtag(network) });
};
