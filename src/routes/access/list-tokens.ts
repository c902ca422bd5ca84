import { createRoute } from "@hono/zod-openapi";
import { tokenSchema } from "../../contracts/access.ts";
import { pageOf, pageQuery } from "../../contracts/primitives.ts";
import { listTokens } from "../../services/list-tokens.ts";
import { commonProblems, jsonResponse, type OperationHandler } from "../operation.ts";
import { admins } from "../security.ts";

export const listTokensRoute = createRoute({
  method: "get",
  path: "/v1/tokens",
  operationId: "listTokens",
  tags: ["access"],
  summary: "List tokens, revoked and used ones too",
  security: admins,
  request: { query: pageQuery },
  responses: { 200: jsonResponse(pageOf(tokenSchema), "One page of tokens."), ...commonProblems },
});

export const listTokensHandler: OperationHandler<typeof listTokensRoute> = (ctx) => async (c) =>
  c.json(await listTokens(ctx, c.req.valid("query")), 200);
