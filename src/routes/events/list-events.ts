import { createRoute, z } from "@hono/zod-openapi";
import { eventCursor, eventSchema, listEventsQuery } from "../../contracts/api/events.ts";
import { pageOf } from "../../contracts/common/primitives.ts";
import type { EventTail } from "../../control/events/event-tail.ts";
import { listEvents } from "../../control/events/list-events.ts";
import { commonProblems, type OperationHandler } from "../http/operation.ts";
import type { LongRequests } from "../http/long-requests.ts";
import { problems } from "../http/problem.ts";
import { readers } from "../http/security.ts";
import { defaultStreamLimits, streamEvents } from "./stream-events.ts";

export const listEventsRoute = createRoute({
  method: "get",
  path: "/v1/events",
  operationId: "listEvents",
  tags: ["events"],
  summary: "List events, or stream them",
  description:
    "JSON is a page with the newest event first. With `Accept: text/event-stream` the response is a stream with the oldest event first, after `after` or `Last-Event-ID`, or from now on. A stream ends after ten minutes: reconnect with the last id. Callers that are bound to a tenant see no events of hosts.",
  security: readers,
  request: {
    query: listEventsQuery,
    headers: z.object({ "last-event-id": eventCursor.optional() }),
  },
  responses: {
    200: {
      description: "One page of events, or a stream of them.",
      content: {
        "application/json": { schema: pageOf(eventSchema) },
        "text/event-stream": { schema: z.string() },
      },
    },
    ...commonProblems,
    ...problems("rate-limited"),
  },
});

/** @param tail shared by all streams of the process */
export function createListEventsHandler(
  tail: EventTail,
  longRequests: LongRequests,
): OperationHandler<typeof listEventsRoute> {
  return (ctx) => async (c) => {
    const query = c.req.valid("query");
    const scope = c.get("scope");
    if (!/\btext\/event-stream\b/i.test(c.req.header("accept") ?? "")) {
      return c.json(await listEvents(ctx, scope, query), 200);
    }
    const after = c.req.valid("header")["last-event-id"] ?? query.after;
    const { signal } = c.req.raw;
    const onEnd = longRequests.enter(c);
    const limits = { ...defaultStreamLimits, onEnd };
    const stream = await streamEvents(ctx, tail, scope, query, after, signal, limits).catch(
      (error: unknown) => {
        onEnd();
        throw error;
      },
    );
    return c.newResponse(stream, 200, {
      "Content-Type": "text/event-stream; charset=utf-8",
      "X-Accel-Buffering": "no",
    });
  };
}
