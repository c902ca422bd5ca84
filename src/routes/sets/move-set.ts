import { createRoute } from "@hono/zod-openapi";
import { moveSetBody, setSchema } from "../../contracts/api/sets.ts";
import { moveSet } from "../../control/sets/move-set.ts";
import {
  bodyProblems,
  idempotentHeaders,
  jsonResponse,
  optionalJsonBody,
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
  summary: "Move a set to another host",
  description:
    "Creates an operation. A new set replaces a running set without a volume, which is removed when the new set is ready. A stopped set leaves its host first and is placed again. A set with a volume moves only with `discardVolume`. It leaves first and gets an empty volume; the old volume goes to the trash of its host. `operation.blocked` shows that no other host fits or that the disruption budget is exhausted. The operation expires after an hour.",
  security: writers,
  request: {
    params: setParameters,
    headers: idempotentHeaders,
    body: optionalJsonBody(moveSetBody),
  },
  responses: {
    202: jsonResponse(setSchema, "The set. The move follows."),
    ...bodyProblems,
    ...problems("state-conflict", "idempotency-conflict", "idempotency-in-progress"),
  },
});

export const moveSetHandler: OperationHandler<typeof moveSetRoute> = (ctx) => async (c) =>
  c.json(await moveSet(ctx, c.get("scope"), c.req.valid("param").setId, c.req.valid("json")), 202);
