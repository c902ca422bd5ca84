import { createRoute } from "@hono/zod-openapi";
import { deleteNetwork } from "../../control/networks/delete-network.ts";
import { getTenantId } from "../http/api-env.ts";
import { commonProblems, type OperationHandler } from "../http/operation.ts";
import { networkParameters } from "../http/parameters.ts";
import { problems } from "../http/problem.ts";
import { writers } from "../http/security.ts";

export const deleteNetworkRoute = createRoute({
  method: "delete",
  path: "/v1/networks/{name}",
  operationId: "deleteNetwork",
  tags: ["networks"],
  summary: "Delete a network",
  description:
    "No service may use the network, and no set may have an address of it. Berth creates the network `default` again when the tenant next needs it.",
  security: writers,
  request: { params: networkParameters },
  responses: {
    204: { description: "The network is deleted." },
    ...commonProblems,
    ...problems("state-conflict"),
  },
});

export const deleteNetworkHandler: OperationHandler<typeof deleteNetworkRoute> =
  (ctx) => async (c) => {
    await deleteNetwork(ctx, getTenantId(c), c.req.valid("param").name);
    return c.body(null, 204);
  };
