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
  summary: "Forget a host",
  description:
    "One that takes no sets any more and has none, nor volumes; or one that is lost, with all it has, when `confirm` repeats its id. Its credential is refused from then on.",
  security: operators,
  request: { params: hostParameters, query: deleteHostQuery },
  responses: {
    204: { description: "It is forgotten." },
    ...commonProblems,
    ...problems("state-conflict"),
  },
});

export const deleteHostHandler: OperationHandler<typeof deleteHostRoute> = (ctx) => async (c) => {
  await deleteHost(ctx, c.req.valid("param").hostId, c.req.valid("query"));
  return c.body(null, 204);
};
