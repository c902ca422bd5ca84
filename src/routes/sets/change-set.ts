import { createRoute } from "@hono/zod-openapi";
import { setSchema } from "../../contracts/api/sets.ts";
import { controlSet, type SetAction } from "../../control/sets/control-set.ts";
import {
  commonProblems,
  idempotentHeaders,
  jsonResponse,
  type OperationHandler,
} from "../http/operation.ts";
import { setParameters } from "../http/parameters.ts";
import { problems } from "../http/problem.ts";
import { writers } from "../http/security.ts";

const summaryOfVerb: Record<SetAction, string> = {
  stop: "Stop the containers of a set, which stays booked on its host",
  start: "Start a stopped set",
  restart: "Recreate the containers of a set on the same host",
};

function changeSetRoute<V extends SetAction>(verb: V) {
  return createRoute({
    method: "post",
    path: `/v1/sets/{setId}/${verb}`,
    operationId: `${verb}Set`,
    tags: ["sets"],
    summary: summaryOfVerb[verb],
    security: writers,
    request: { params: setParameters, headers: idempotentHeaders },
    responses: {
      202: jsonResponse(setSchema, "The set. Its host applies the change."),
      ...commonProblems,
      ...problems("state-conflict", "idempotency-conflict", "idempotency-in-progress"),
    },
  });
}

export const stopSetRoute = changeSetRoute("stop");
export const startSetRoute = changeSetRoute("start");
export const restartSetRoute = changeSetRoute("restart");

export function changeSetHandler<V extends SetAction>(
  verb: V,
): OperationHandler<ReturnType<typeof changeSetRoute<V>>> {
  return (ctx) => async (c) =>
    c.json(await controlSet(ctx, c.get("scope"), c.req.valid("param").setId, verb), 202);
}
