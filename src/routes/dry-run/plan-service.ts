import { createRoute } from "@hono/zod-openapi";
import { planBody, planResultSchema } from "../../contracts/api/dry-run.ts";
import { createServicePlanner } from "../../control/dry-run/plan-service.ts";
import { getTenantId } from "../http/api-env.ts";
import { bodyProblems, jsonBody, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { problems } from "../http/problem.ts";
import { readers } from "../http/security.ts";

export const planServiceRoute = createRoute({
  method: "post",
  path: "/v1/plan",
  operationId: "planService",
  tags: ["services"],
  summary: "Show the effects of a change without making it",
  description:
    "Runs the planner of the placement on the current fleet, and commits nothing. A change that exceeds the quota or lacks a grant is refused, as the real request would be.",
  security: readers,
  request: { body: jsonBody(planBody) },
  responses: {
    200: jsonResponse(planResultSchema, "The planned placements with their reasons."),
    ...bodyProblems,
    ...problems(
      "invalid-request",
      "unsupported",
      "quota-exceeded",
      "grant-missing",
      "rate-limited",
    ),
  },
});

/** All requests of an app share one planner. */
export const planServiceHandler: OperationHandler<typeof planServiceRoute> = (ctx) => {
  const planner = createServicePlanner(ctx);
  return async (c) => c.json(await planner.plan(getTenantId(c), c.req.valid("json")), 200);
};
