import { createRoute } from "@hono/zod-openapi";
import { hostSchema, patchHostBody } from "../../contracts/hosts.ts";
import { patchHost } from "../../services/admit-host.ts";
import { bodyProblems, jsonBody, jsonResponse, type OperationHandler } from "../operation.ts";
import { hostParameters } from "../parameters.ts";
import { operators } from "../security.ts";

export const patchHostRoute = createRoute({
  method: "patch",
  path: "/v1/hosts/{hostId}",
  operationId: "patchHost",
  tags: ["hosts"],
  summary: "Replace a host's labels or taints",
  description: "What is absent stays. Sets that run there stay.",
  security: operators,
  request: { params: hostParameters, body: jsonBody(patchHostBody) },
  responses: { 200: jsonResponse(hostSchema, "The host."), ...bodyProblems },
});

export const patchHostHandler: OperationHandler<typeof patchHostRoute> = (ctx) => async (c) =>
  c.json(await patchHost(ctx, c.req.valid("param").hostId, c.req.valid("json")), 200);
