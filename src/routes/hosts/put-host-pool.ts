import { createRoute, z } from "@hono/zod-openapi";
import { hostPoolBody, hostPoolSchema } from "../../contracts/api/hosts.ts";
import { nameSchema } from "../../contracts/common/primitives.ts";
import { putHostPool } from "../../control/hosts/put-host-pool.ts";
import { etagOf, generationOf, ifMatchHeaders } from "../http/if-match.ts";
import { bodyProblems, jsonBody, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { problems } from "../http/problem.ts";
import { operators } from "../http/security.ts";

export const putHostPoolRoute = createRoute({
  method: "put",
  path: "/v1/host-pools/{pool}",
  operationId: "putHostPool",
  tags: ["hosts"],
  summary: "Make a host pool, or replace how far its hosts are filled",
  description:
    "What is absent takes its default. Nothing that is placed is moved. With If-Match (the version) only what the caller has read is replaced.",
  security: operators,
  request: {
    params: z.object({ pool: nameSchema }),
    headers: ifMatchHeaders,
    body: jsonBody(hostPoolBody),
  },
  responses: {
    200: jsonResponse(hostPoolSchema, "The pool."),
    ...bodyProblems,
    ...problems("generation-mismatch"),
  },
});

export const putHostPoolHandler: OperationHandler<typeof putHostPoolRoute> = (ctx) => async (c) => {
  const version = generationOf(c.req.valid("header")["if-match"]);
  const pool = await putHostPool(ctx, c.req.valid("param").pool, c.req.valid("json"), version);
  return c.json(pool, 200, { ETag: etagOf({ generation: pool.version }) });
};
