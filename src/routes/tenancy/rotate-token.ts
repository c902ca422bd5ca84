import { createRoute, z } from "@hono/zod-openapi";
import { rotateBody, rotatedTokenSchema } from "../../contracts/api/tenancy.ts";
import { idSchema } from "../../contracts/common/primitives.ts";
import { rotateToken } from "../../control/tenancy/rotate-token.ts";
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

export const rotateTokenRoute = createRoute({
  method: "post",
  path: "/v1/tokens/{tokenId}/rotate",
  operationId: "rotateToken",
  tags: ["access"],
  summary: "Replace a token with a new one",
  description:
    "Both tokens are valid during the overlap. The new token has the name, role, tenant and lifetime of the previous one. A token is rotated once: a second rotation is a state-conflict that names the successor.",
  security: admins,
  request: {
    params: z.object({ tokenId: idSchema("tok") }),
    headers: idempotentHeaders,
    body: jsonBody(rotateBody),
  },
  responses: {
    201: jsonResponse(rotatedTokenSchema, "The new token with its secret, and the previous token."),
    ...bodyProblems,
    ...problems("state-conflict", "idempotency-conflict", "idempotency-in-progress"),
  },
});

export const rotateTokenHandler: OperationHandler<typeof rotateTokenRoute> = (ctx) => async (c) => {
  const { tokenId } = c.req.valid("param");
  const { overlapSeconds } = c.req.valid("json");
  return c.json(await rotateToken(ctx, getCaller(c), tokenId, overlapSeconds), 201);
};
