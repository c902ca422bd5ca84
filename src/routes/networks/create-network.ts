import { createRoute } from "@hono/zod-openapi";
import { createNetworkBody, networkSchema } from "../../contracts/api/networks.ts";
import { createNetwork } from "../../control/networks/create-network.ts";
import { getTenantId } from "../http/api-env.ts";
import { toEtag } from "../http/if-match.ts";
import {
  bodyProblems,
  idempotentHeaders,
  jsonBody,
  jsonResponse,
  type OperationHandler,
} from "../http/operation.ts";
import { problems } from "../http/problem.ts";
import { writers } from "../http/security.ts";

export const createNetworkRoute = createRoute({
  method: "post",
  path: "/v1/networks",
  operationId: "createNetwork",
  tags: ["networks"],
  summary: "Create a network",
  description:
    "A network has one IPv4 subnet, one IPv6 subnet, or both. Networks of two tenants, and two networks of one tenant, may have equal subnets.",
  security: writers,
  request: { headers: idempotentHeaders, body: jsonBody(createNetworkBody) },
  responses: {
    201: jsonResponse(networkSchema, "The network."),
    ...bodyProblems,
    ...problems(
      "already-exists",
      "invalid-request",
      "quota-exceeded",
      "idempotency-conflict",
      "idempotency-in-progress",
    ),
  },
});

export const createNetworkHandler: OperationHandler<typeof createNetworkRoute> =
  (ctx) => async (c) => {
    const network = await createNetwork(ctx, getTenantId(c), c.req.valid("json"));
    const headers = { ETag: toEtag(network), Location: `/v1/networks/${network.name}` };
    return c.json(network, 201, headers);
  };
