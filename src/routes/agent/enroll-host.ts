import { createRoute } from "@hono/zod-openapi";
import { enrollBody, enrolledSchema } from "../../contracts/agent-protocol/enroll.ts";
import { enrollHost } from "../../control/hosts/enroll-host.ts";
import { getCaller } from "../http/api-env.ts";
import { bodyProblems, jsonBody, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { problems } from "../http/problem.ts";
import { allow } from "../http/security.ts";

export const enrollHostRoute = createRoute({
  method: "post",
  path: "/agent/v1/enroll",
  operationId: "enrollHost",
  tags: ["agent"],
  summary: "Enroll a host",
  description:
    "Consumes the enroll token. A repeated request with the same `credential` has the same response.",
  security: allow("enroll"),
  request: { body: jsonBody(enrollBody) },
  responses: {
    201: jsonResponse(enrolledSchema, "The host's id and credential."),
    ...bodyProblems,
    ...problems("already-exists"),
  },
});

export const enrollHostHandler: OperationHandler<typeof enrollHostRoute> = (ctx) => async (c) =>
  c.json(await enrollHost(ctx, getCaller(c), c.req.valid("json")), 201);
