import { createRoute } from "@hono/zod-openapi";
import { setSchema } from "../../contracts/api/sets.ts";
import { moveSet } from "../../control/sets/move-set.ts";
import {
  commonProblems,
  idempotentHeaders,
  jsonResponse,
  type OperationHandler,
} from "../http/operation.ts";
import { setParameters } from "../http/parameters.ts";
import { problems } from "../http/problem.ts";
import { writers } from "../http/security.ts";

export const moveSetRoute = createRoute({
  method: "post",
  path: "/v1/sets/{setId}/move",
  operationId: "moveSet",
  tags: ["sets"],
  summary: "Have a set run on another host",
  description:
    "Refused when no other host would take it. A running set without a volume is replaced by a new one, and removed once that is ready. One with a volume, and one that is stopped, leaves its host first and is placed again, with an empty volume: what was in it stays in the trash of its former host.",
  security: writers,
  request: { params: setParameters, headers: idempotentHeaders },
  responses: {
    202: jsonResponse(setSchema, "The set, which will follow."),
    ...commonProblems,
    ...problems(
      "state-conflict",
      "capacity-insufficient",
      "idempotency-conflict",
      "idempotency-in-progress",
    ),
  },
});

export const moveSetHandler: OperationHandler<typeof moveSetRoute> = (ctx) => async (c) =>
  c.json(await moveSet(ctx, c.get("scope"), c.req.valid("param").setId), 202);
