import { createRoute, z } from "@hono/zod-openapi";
import { idSchema } from "../../contracts/common/primitives.ts";
import { revokeToken } from "../../control/tenancy/revoke-token.ts";
import { commonProblems, type OperationHandler } from "../http/operation.ts";
import { admins } from "../http/security.ts";

export const revokeTokenRoute = createRoute({
  method: "delete",
  path: "/v1/tokens/{tokenId}",
  operationId: "revokeToken",
  tags: ["access"],
  summary: "Revoke a token",
  description:
    "The API process that handles the request rejects the token immediately; the others reject it within 2 s.",
  security: admins,
  request: { params: z.object({ tokenId: idSchema("tok") }) },
  responses: { 204: { description: "The token is revoked." }, ...commonProblems },
});

export const revokeTokenHandler: OperationHandler<typeof revokeTokenRoute> = (ctx) => async (c) => {
  await revokeToken(ctx, c.req.valid("param").tokenId);
  return c.body(null, 204);
};
