import { createRoute } from "@hono/zod-openapi";
import { deleteRuleQuery } from "../../contracts/api/rules.ts";
import { deleteRule } from "../../control/rules/delete-rule.ts";
import { getTenantId } from "../http/api-env.ts";
import { ifMatchHeaders, parseIfMatch } from "../http/if-match.ts";
import { commonProblems, type OperationHandler } from "../http/operation.ts";
import { ruleParameters } from "../http/parameters.ts";
import { problems } from "../http/problem.ts";
import { writers } from "../http/security.ts";

export const deleteRuleRoute = createRoute({
  method: "delete",
  path: "/v1/rules/{name}",
  operationId: "deleteRule",
  tags: ["rules"],
  summary: "Delete a rule",
  description:
    "With If-Match, Berth deletes only the generation that the caller has read. Open connections continue, unless `endConnections` is true.",
  security: writers,
  request: { params: ruleParameters, headers: ifMatchHeaders, query: deleteRuleQuery },
  responses: {
    204: { description: "The rule is deleted." },
    ...commonProblems,
    ...problems("generation-mismatch"),
  },
});

export const deleteRuleHandler: OperationHandler<typeof deleteRuleRoute> = (ctx) => async (c) => {
  const generation = parseIfMatch(c.req.valid("header")["if-match"]);
  const endsConnections = c.req.valid("query").endConnections === "true";
  const { name } = c.req.valid("param");
  await deleteRule(ctx, getTenantId(c), name, { generation, endsConnections });
  return c.body(null, 204);
};
