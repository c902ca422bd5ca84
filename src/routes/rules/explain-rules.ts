import { createRoute } from "@hono/zod-openapi";
import { explainRulesQuery, ruleExplanationSchema } from "../../contracts/api/rule-explanation.ts";
import { AppError } from "../../contracts/common/app-error.ts";
import { explainRules } from "../../control/rules/explain-rules.ts";
import { KeyedLimit } from "../../lib/async/keyed-limit.ts";
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
    ...problems("rate-limited", "state-conflict"),
  },
});

/** Explanations of one tenant at the same time. Each may read and compare 20,000 rules. */
const EXPLANATIONS_PER_TENANT_MAX = 4;
const RETRY_AFTER_MS = 1_000;

export function createExplainRulesHandler(): OperationHandler<typeof explainRulesRoute> {
  const explanations = new KeyedLimit(EXPLANATIONS_PER_TENANT_MAX);
  return (ctx) => async (c) => {
    const tenantId = getTenantId(c);
    const leave = explanations.tryEnter(tenantId);
    if (!leave) throw tooManyExplanations();
    try {
      return c.json(await explainRules(ctx, tenantId, c.req.valid("query")), 200);
    } finally {
      leave();
    }
  };
}

function tooManyExplanations(): AppError {
  return new AppError("rate-limited", {
    detail: `At most ${EXPLANATIONS_PER_TENANT_MAX} explanations of rules of a tenant run at the same time. Retry after ${RETRY_AFTER_MS / 1_000} s.`,
    retryAfterMs: RETRY_AFTER_MS,
  });
}
