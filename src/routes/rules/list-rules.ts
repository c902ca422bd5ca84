import { createRoute } from "@hono/zod-openapi";
import { listRulesQuery, ruleSchema } from "../../contracts/api/rules.ts";
import { pageOf } from "../../contracts/common/primitives.ts";
import { listRules } from "../../control/rules/list-rules.ts";
import { commonProblems, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { readers } from "../http/security.ts";

export const listRulesRoute = createRoute({
  method: "get",
  path: "/v1/rules",
  operationId: "listRules",
  tags: ["rules"],
  summary: "List rules, the oldest first",
  security: readers,
  request: { query: listRulesQuery },
  responses: { 200: jsonResponse(pageOf(ruleSchema), "One page of rules."), ...commonProblems },
});

export const listRulesHandler: OperationHandler<typeof listRulesRoute> = (ctx) => async (c) => {
  const { network, service, ...page } = c.req.valid("query");
  return c.json(await listRules(ctx, c.get("scope"), { network, service }, page), 200);
};
