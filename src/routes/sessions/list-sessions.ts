import { createRoute } from "@hono/zod-openapi";
import { listSessionsQuery, sessionSchema } from "../../contracts/api/sessions.ts";
import { pageOf } from "../../contracts/common/primitives.ts";
import { listSessions } from "../../control/sessions/list-sessions.ts";
import { commonProblems, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { readers } from "../http/security.ts";

export const listSessionsRoute = createRoute({
  method: "get",
  path: "/v1/sessions",
  operationId: "listSessions",
  tags: ["sessions"],
  summary: "List sessions",
  description: "The newest session is first. Berth retains ended sessions for 90 days.",
  security: readers,
  request: { query: listSessionsQuery },
  responses: {
    200: jsonResponse(pageOf(sessionSchema), "One page of sessions."),
    ...commonProblems,
  },
});

export const listSessionsHandler: OperationHandler<typeof listSessionsRoute> = (ctx) => async (c) =>
  c.json(await listSessions(ctx, c.get("scope"), c.req.valid("query")), 200);
