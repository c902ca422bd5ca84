import { createRoute } from "@hono/zod-openapi";
import { explainRulesQuery, ruleExplanationSchema } from "../../contracts/api/rule-explanation.ts";
import { explainRules } from "../../control/rules/explain-rules.ts";
import { getTenantId } from "../http/api-env.ts";
import { commonProblems, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { problems } from "../http/problem.ts";
import { readers } from "../http/security.ts";

export const explainRulesRoute = createRoute({
  method: "get",
  path: "/v1/rules/explain",
  operationId: "explainRules",
  tags: ["rules"],
  summary: "Explain which rules decide a connection",
  description:
    "Names the deciding rule of the sender's egress and of the receiver's ingress. A connection needs both to allow it.",
  security: readers,
  request: { query: explainRulesQuery },
  responses: {
    200: jsonResponse(ruleExplanationSchema, "The decisions."),
    ...commonProblems,
    ...problems("state-conflict"),
  },
});

export const explainRulesHandler: OperationHandler<typeof explainRulesRoute> = (ctx) => async (c) =>
  c.json(await explainRules(ctx, getTenantId(c), c.req.valid("query")), 200);
