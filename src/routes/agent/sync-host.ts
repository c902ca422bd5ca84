import { createRoute } from "@hono/zod-openapi";
import { syncBody, syncResultSchema } from "../../contracts/agent-protocol/sync.ts";
import { syncHost } from "../../control/hosts/sync-host.ts";
import { getHostCaller } from "../http/api-env.ts";
import { bodyProblems, jsonBody, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { problems } from "../http/problem.ts";
import { hosts } from "../http/security.ts";

export const syncHostRoute = createRoute({
  method: "post",
  path: "/agent/v1/sync",
  operationId: "syncHost",
  tags: ["agent"],
  summary: "Report observed sets, and receive desired sets",
  description: "Renews the lease. Answers when a desired set changes, or after `waitMs`.",
  security: hosts,
  request: { body: jsonBody(syncBody) },
  responses: {
    200: jsonResponse(syncResultSchema, "Desired sets changed since the accepted generation."),
    ...bodyProblems,
    ...problems("host-deleted"),
  },
});

export const syncHostHandler: OperationHandler<typeof syncHostRoute> = (ctx) => async (c) =>
  c.json(await syncHost(ctx, getHostCaller(c), c.req.valid("json"), c.req.raw.signal), 200);
