import { createRoute } from "@hono/zod-openapi";
import { networkSchema, patchNetworkBody } from "../../contracts/api/networks.ts";
import { patchNetwork } from "../../control/networks/patch-network.ts";
import { getTenantId } from "../http/api-env.ts";
import { ifMatchHeaders, parseIfMatch, toEtag } from "../http/if-match.ts";
import { bodyProblems, jsonBody, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { networkParameters } from "../http/parameters.ts";
import { problems } from "../http/problem.ts";
import { writers } from "../http/security.ts";

export const patchNetworkRoute = createRoute({
  method: "patch",
  path: "/v1/networks/{name}",
  operationId: "patchNetwork",
  tags: ["networks"],
  summary: "Change the subnets of a network",
  description:
    "The list replaces the previous one. A subnet with the same `cidr` keeps its id and the addresses of its sets. Berth refuses a change that excludes an address that a set or a service has, or that changes the gateway of a subnet with sets. With If-Match, the change applies only to the generation that the caller has read.",
  security: writers,
  request: {
    params: networkParameters,
    headers: ifMatchHeaders,
    body: jsonBody(patchNetworkBody),
  },
  responses: {
    200: jsonResponse(networkSchema, "The network."),
    ...bodyProblems,
    ...problems("generation-mismatch", "state-conflict"),
  },
});

export const patchNetworkHandler: OperationHandler<typeof patchNetworkRoute> =
  (ctx) => async (c) => {
    const generation = parseIfMatch(c.req.valid("header")["if-match"]);
    const { name } = c.req.valid("param");
    const network = await patchNetwork(ctx, getTenantId(c), name, generation, c.req.valid("json"));
    return c.json(network, 200, { ETag: toEtag(network) });
  };
