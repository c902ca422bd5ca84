import { createRoute, z } from "@hono/zod-openapi";
import { idSchema, nameSchema } from "../../contracts/common/primitives.ts";
import { logsQuery } from "../../contracts/api/sets.ts";
import { openLogStream } from "../../control/sets/open-log-stream.ts";
import { KeyedLimit } from "../../lib/async/keyed-limit.ts";
import { commonProblems, type OperationHandler } from "../http/operation.ts";
import type { LongRequests } from "../http/long-requests.ts";
import { problems } from "../http/problem.ts";
import { readers } from "../http/security.ts";
import { toByteStream } from "./to-byte-stream.ts";

export const readLogsRoute = createRoute({
  method: "get",
  path: "/v1/sets/{setId}/containers/{container}/logs",
  operationId: "readLogs",
  tags: ["sets"],
  summary: "Read a container's log",
  description:
    "The response has the last lines as text, and with `follow` all further lines. It ends incomplete if the agent of the host reports an error.",
  security: readers,
  request: {
    params: z.object({ setId: idSchema("set"), container: nameSchema }),
    query: logsQuery,
  },
  responses: {
    200: { description: "Log lines.", content: { "text/plain": { schema: z.string() } } },
    ...commonProblems,
    ...problems("state-conflict", "rate-limited"),
  },
});

/**
 * The response to a follower waits this long for the first line, so that early faults get a status.
 */
const FIRST_CHUNK_MS = 1_000;

/** Log streams of one tenant on one host. The agent of a host serves 32 streams of all tenants. */
const STREAMS_PER_TENANT_AND_HOST_MAX = 8;

export function createReadLogsHandler(
  longRequests: LongRequests,
): OperationHandler<typeof readLogsRoute> {
  const tenantStreams = new KeyedLimit(STREAMS_PER_TENANT_AND_HOST_MAX);
  return (ctx) => async (c) => {
    const { setId, container } = c.req.valid("param");
    const query = c.req.valid("query");
    const reader = new AbortController();
    const signal = AbortSignal.any([c.req.raw.signal, reader.signal]);
    const releaseRequest = longRequests.enter(c);
    try {
      const request = { setId, container, ...query };
      const limits = { tenantStreams, onEnd: releaseRequest };
      const chunks = await openLogStream(ctx, limits, c.get("scope"), request, signal);
      const body = await toByteStream(chunks, {
        firstChunkMs: query.follow ? FIRST_CHUNK_MS : undefined,
        onCancel: () => reader.abort(),
      });
      return c.body(body, 200, { "Content-Type": "text/plain; charset=utf-8" }) as never;
    } catch (error) {
      releaseRequest();
      throw error;
    }
  };
}
