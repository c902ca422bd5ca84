import { createRoute, z } from "@hono/zod-openapi";
import { eventCursor, eventSchema, listEventsQuery } from "../../contracts/api/events.ts";
import { pageOf } from "../../contracts/common/primitives.ts";
import type { EventTail } from "../../control/events/event-tail.ts";
import { listEvents } from "../../control/events/list-events.ts";
import { acceptsStream, answerWithStream, type StreamingApi } from "../http/event-stream.ts";
import { commonProblems, type OperationHandler } from "../http/operation.ts";
import { problems } from "../http/problem.ts";
import { readers } from "../http/security.ts";
import { streamEvents } from "./stream-events.ts";

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
  api: StreamingApi,
): OperationHandler<typeof listEventsRoute> {
  return (ctx) => async (c) => {
    const query = c.req.valid("query");
    const scope = c.get("scope");
    if (!acceptsStream(c)) return c.json(await listEvents(ctx, scope, query), 200);
    const after = c.req.valid("header")["last-event-id"] ?? query.after;
    return answerWithStream(api, c, (signal, limits) =>
      streamEvents(ctx, tail, scope, query, after, signal, limits),
    );
  };
}
