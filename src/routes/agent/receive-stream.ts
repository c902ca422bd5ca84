import { createRoute, z } from "@hono/zod-openapi";
import { idSchema } from "../../contracts/common/primitives.ts";
import { commonProblems, type OperationHandler } from "../http/operation.ts";
import { problems } from "../http/problem.ts";
import { hosts } from "../http/security.ts";
import { receiveStream } from "../../control/sets/receive-stream.ts";

export const receiveStreamRoute = createRoute({
  method: "post",
  path: "/agent/v1/streams/{streamId}",
  operationId: "receiveStream",
  tags: ["agent"],
  summary: "Send the log of a container to its reader",
  description:
    "The body is the log, without a length limit. `error` or an incomplete body ends the response to the reader. The status is 404 when the reader has disconnected.",
  security: hosts,
  request: {
    params: z.object({ streamId: idSchema("str") }),
    query: z.object({ error: z.string().min(1).max(500).optional() }),
    body: { content: { "application/octet-stream": { schema: z.string() } } },
  },
  responses: {
    204: { description: "The reader received the whole log." },
    ...commonProblems,
    ...problems("host-deleted"),
  },
});

export const receiveStreamHandler: OperationHandler<typeof receiveStreamRoute> =
  (ctx) => async (c) => {
    const { streamId } = c.req.valid("param");
    await receiveStream(ctx, streamId, c.req.raw.body ?? [], c.req.valid("query").error);
    return c.body(null, 204);
  };
