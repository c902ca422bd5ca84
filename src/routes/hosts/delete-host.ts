import { createRoute } from "@hono/zod-openapi";
import { deleteHostQuery } from "../../contracts/api/hosts.ts";
import { deleteHost } from "../../control/hosts/delete-host.ts";
import { commonProblems, type OperationHandler } from "../http/operation.ts";
import { hostParameters } from "../http/parameters.ts";
import { problems } from "../http/problem.ts";
import { operators } from "../http/security.ts";

export const deleteHostRoute = createRoute({
  method: "delete",
  path: "/v1/hosts/{hostId}",
  operationId: "deleteHost",
  tags: ["hosts"],
  summary: "Delete a host",
  description:
    "The host must be cordoned and have no sets or volumes. A lost host is deleted together with them if `confirm` is its id. Berth cannot stop containers that still run on the machine. It then rejects the credential of the host.",
  security: operators,
  request: { params: hostParameters, query: deleteHostQuery },
  responses: {
    204: { description: "The host is deleted." },
    ...commonProblems,
    ...problems("state-conflict"),
  },
});

export const deleteHostHandler: OperationHandler<typeof deleteHostRoute> = (ctx) => async (c) => {
  await deleteHost(ctx, c.req.valid("param").hostId, c.req.valid("query"));
  return c.body(null, 204);
};
