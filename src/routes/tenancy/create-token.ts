import { createRoute } from "@hono/zod-openapi";
import { createdTokenSchema, createTokenBody } from "../../contracts/api/tenancy.ts";
import { createToken } from "../../control/tenancy/create-token.ts";
import { getCaller } from "../http/api-env.ts";
import {
  bodyProblems,
  idempotentHeaders,
  jsonBody,
  jsonResponse,
  type OperationHandler,
} from "../http/operation.ts";
import { problems } from "../http/problem.ts";
import { admins } from "../http/security.ts";

export const createTokenRoute = createRoute({
  method: "post",
  path: "/v1/tokens",
  operationId: "createToken",
  tags: ["access"],
  summary: "Create a token",
  description: "Only this response contains the secret. Berth stores its hash.",
  security: admins,
  request: { headers: idempotentHeaders, body: jsonBody(createTokenBody) },
  responses: {
    201: jsonResponse(createdTokenSchema, "The token and its secret."),
    ...bodyProblems,
    ...problems("idempotency-conflict", "idempotency-in-progress"),
  },
});

export const createTokenHandler: OperationHandler<typeof createTokenRoute> = (ctx) => async (c) =>
  c.json(await createToken(ctx, getCaller(c), c.req.valid("json")), 201);
