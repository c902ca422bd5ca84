import { createRoute, z } from "@hono/zod-openapi";
import { idSchema } from "../../contracts/common/primitives.ts";
import { prepareSocket } from "../http/accept-socket.ts";
import { getHostCaller } from "../http/api-env.ts";
import { commonProblems, type OperationHandler } from "../http/operation.ts";
import { problems } from "../http/problem.ts";
import { hosts } from "../http/security.ts";

export const connectSessionRoute = createRoute({
  method: "get",
  path: "/agent/v1/sessions/{sessionId}",
  operationId: "connectSession",
  tags: ["agent"],
  summary: "Connect to the caller of a session",
  description:
    "A WebSocket with the frames of docs/internals/sessions.md. The status is 404 if the caller has disconnected, or the session is on another host.",
  security: hosts,
  request: { params: z.object({ sessionId: idSchema("ses") }) },
  responses: {
    101: { description: "The WebSocket of the session." },
    ...commonProblems,
    ...problems("host-deleted"),
  },
});

export const connectSessionHandler: OperationHandler<typeof connectSessionRoute> =
  (ctx) => async (c) => {
    const { sessionId } = c.req.valid("param");
    const { hostId } = getHostCaller(c);
    const accept = prepareSocket(c);
    const owner = await ctx.sessions.findOwner({ sessionId, hostId });
    return accept({ run: owner.connect, abandon: owner.abandon });
  };
