import { createRoute } from "@hono/zod-openapi";
import { deleteHost } from "../../services/admit-host.ts";
import { commonProblems, type OperationHandler } from "../operation.ts";
import { hostParameters } from "../parameters.ts";
import { problems } from "../problem.ts";
import { operators } from "../security.ts";

export const deleteHostRoute = createRoute({
  method: "delete",
  path: "/v1/hosts/{hostId}",
  operationId: "deleteHost",
  tags: ["hosts"],
  summary: "Forget a host",
  description:
    "Only one that takes no sets any more and has none. Its credential is refused from then on.",
  security: operators,
  request: { params: hostParameters },
  responses: {
    204: { description: "It is forgotten." },
    ...commonProblems,
    ...problems("state-conflict"),
  },
});

export const deleteHostHandler: OperationHandler<typeof deleteHostRoute> = (ctx) => async (c) => {
  await deleteHost(ctx, c.req.valid("param").hostId);
  return c.body(null, 204);
};
