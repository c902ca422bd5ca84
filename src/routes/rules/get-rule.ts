import { createRoute } from "@hono/zod-openapi";
import { ruleSchema } from "../../contracts/api/rules.ts";
import { getRule } from "../../control/rules/get-rule.ts";
import { getTenantId } from "../http/api-env.ts";
import { toEtag } from "../http/if-match.ts";
import { commonProblems, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { ruleParameters } from "../http/parameters.ts";
import { readers } from "../http/security.ts";

export const getRuleRoute = createRoute({
  method: "get",
  path: "/v1/rules/{name}",
  operationId: "getRule",
  tags: ["rules"],
  summary: "Read a rule",
  description: "The ETag is the generation.",
  security: readers,
  request: { params: ruleParameters },
  responses: { 200: jsonResponse(ruleSchema, "The rule."), ...commonProblems },
});

export const getRuleHandler: OperationHandler<typeof getRuleRoute> = (ctx) => async (c) => {
  const rule = await getRule(ctx, getTenantId(c), c.req.valid("param").name);
  return c.json(rule, 200, { ETag: toEtag(rule) });
};
