import { createRoute, z } from "@hono/zod-openapi";
import { hostPoolBody, hostPoolSchema } from "../../contracts/api/hosts.ts";
import { nameSchema } from "../../contracts/common/primitives.ts";
import { putHostPool } from "../../control/hosts/put-host-pool.ts";
import { toEtag, parseIfMatch, ifMatchHeaders } from "../http/if-match.ts";
import { bodyProblems, jsonBody, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { problems } from "../http/problem.ts";
import { operators } from "../http/security.ts";

export const putHostPoolRoute = createRoute({
  method: "put",
  path: "/v1/host-pools/{pool}",
  operationId: "putHostPool",
  tags: ["hosts"],
  summary: "Create a host pool, or replace its limits",
  description:
    "Absent members get their defaults. Placed sets stay. With If-Match, the change applies only to the version that the caller has read.",
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
  const version = parseIfMatch(c.req.valid("header")["if-match"]);
  const pool = await putHostPool(ctx, c.req.valid("param").pool, c.req.valid("json"), version);
  return c.json(pool, 200, { ETag: toEtag({ generation: pool.version }) });
};
