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
  summary: "Have a set run on another host",
  description:
    "Creates an operation. A running set without a volume is replaced by a new set, and removed once that is ready. A stopped set leaves its host first and is placed again. A set with a volume moves only with `discardVolume`: it leaves first and starts with an empty volume, and the old one goes to the trash of its host. While no other host fits, or the disruption budget is used up, `operation.blocked` says so; after an hour the operation expires.",
  security: writers,
  request: {
    params: setParameters,
    headers: idempotentHeaders,
    body: optionalJsonBody(moveSetBody),
  },
  responses: {
    202: jsonResponse(setSchema, "The set, which will follow."),
    ...bodyProblems,
    ...problems("state-conflict", "idempotency-conflict", "idempotency-in-progress"),
  },
});

export const moveSetHandler: OperationHandler<typeof moveSetRoute> = (ctx) => async (c) =>
  c.json(await moveSet(ctx, c.get("scope"), c.req.valid("param").setId, c.req.valid("json")), 202);
