import { createRoute, z } from "@hono/zod-openapi";
import { hostPoolBody, hostPoolSchema } from "../../contracts/hosts.ts";
import { nameSchema } from "../../contracts/primitives.ts";
import { putHostPool } from "../../services/put-host-pool.ts";
import { bodyProblems, jsonBody, jsonResponse, type OperationHandler } from "../operation.ts";
import { operators } from "../security.ts";

export const putHostPoolRoute = createRoute({
  method: "put",
  path: "/v1/host-pools/{pool}",
  operationId: "putHostPool",
  tags: ["hosts"],
  summary: "Make a host pool, or replace how far its hosts are filled",
  description: "What is absent takes its default. Nothing that is placed is moved.",
  security: operators,
  request: { params: z.object({ pool: nameSchema }), body: jsonBody(hostPoolBody) },
  responses: { 200: jsonResponse(hostPoolSchema, "The pool."), ...bodyProblems },
});

export const putHostPoolHandler: OperationHandler<typeof putHostPoolRoute> = (ctx) => async (c) =>
  c.json(await putHostPool(ctx, c.req.valid("param").pool, c.req.valid("json")), 200);
