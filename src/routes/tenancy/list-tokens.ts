import { createRoute } from "@hono/zod-openapi";
import { tokenSchema } from "../../contracts/api/tenancy.ts";
import { pageOf, pageQuery } from "../../contracts/common/primitives.ts";
import { listTokens } from "../../control/tenancy/list-tokens.ts";
import { commonProblems, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { admins } from "../http/security.ts";

export const listTokensRoute = createRoute({
  method: "get",
  path: "/v1/tokens",
  operationId: "listTokens",
  tags: ["access"],
  summary: "List tokens, including revoked and used tokens",
  security: admins,
  request: { query: pageQuery },
  responses: { 200: jsonResponse(pageOf(tokenSchema), "One page of tokens."), ...commonProblems },
});

export const listTokensHandler: OperationHandler<typeof listTokensRoute> = (ctx) => async (c) =>
  c.json(await listTokens(ctx, c.req.valid("query")), 200);
