import { createRoute } from "@hono/zod-openapi";
import { patchRuleBody, ruleSchema } from "../../contracts/api/rules.ts";
import { patchRule } from "../../control/rules/patch-rule.ts";
import { getTenantId } from "../http/api-env.ts";
import { ifMatchHeaders, parseIfMatch, toEtag } from "../http/if-match.ts";
import { bodyProblems, jsonBody, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { ruleParameters } from "../http/parameters.ts";
import { problems } from "../http/problem.ts";
import { writers } from "../http/security.ts";

export const patchRuleRoute = createRoute({
  method: "patch",
  path: "/v1/rules/{name}",
  operationId: "patchRule",
  tags: ["rules"],
  summary: "Change a rule",
  description:
    "Members that the request omits stay as they are. The name and the network of a rule never change. With If-Match, the change applies only to the generation that the caller has read. Open connections continue, unless `endConnections` is true.",
  security: writers,
  request: { params: ruleParameters, headers: ifMatchHeaders, body: jsonBody(patchRuleBody) },
  responses: {
    200: jsonResponse(ruleSchema, "The rule."),
    ...bodyProblems,
    ...problems("generation-mismatch", "invalid-request", "quota-exceeded"),
  },
});

export const patchRuleHandler: OperationHandler<typeof patchRuleRoute> = (ctx) => async (c) => {
  const generation = parseIfMatch(c.req.valid("header")["if-match"]);
  const { name } = c.req.valid("param");
  const rule = await patchRule(ctx, getTenantId(c), name, generation, c.req.valid("json"));
  return c.json(rule, 200, { ETag: toEtag(rule) });
};
