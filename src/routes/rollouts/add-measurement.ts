import { createRoute } from "@hono/zod-openapi";
import { addMeasurementBody } from "../../contracts/api/rollout-requests.ts";
import { addMeasurement } from "../../control/rollouts/add-measurement.ts";
import { getTenantId } from "../http/api-env.ts";
import { bodyProblems, jsonBody, type OperationHandler } from "../http/operation.ts";
import { rolloutParameters } from "../http/parameters.ts";
import { problems } from "../http/problem.ts";
import { writers } from "../http/security.ts";

export const addMeasurementRoute = createRoute({
  method: "post",
  path: "/v1/services/{name}/rollouts/{number}/measurements",
  operationId: "addRolloutMeasurement",
  tags: ["rollouts"],
  summary: "Send the value of a metric to a rollout",
  description:
    "A step whose promotion names the metric waits for recent values within its bounds. Berth stores the newest value of each metric.",
  security: writers,
  request: { params: rolloutParameters, body: jsonBody(addMeasurementBody) },
  responses: {
    204: { description: "The value is stored." },
    ...bodyProblems,
    ...problems("invalid-request", "state-conflict"),
  },
});

export const addMeasurementHandler: OperationHandler<typeof addMeasurementRoute> =
  (ctx) => async (c) => {
    const { name, number } = c.req.valid("param");
    await addMeasurement(ctx, getTenantId(c), name, { ...c.req.valid("json"), number });
    return c.body(null, 204);
  };
