import { createRoute, z } from "@hono/zod-openapi";
import { AppError, notFound } from "../../contracts/common/app-error.ts";
import {
  type Alert,
  alertmanagerDelivery,
  genericDelivery,
  hookReceiptSchema,
} from "../../contracts/api/autoscaling.ts";
import { problemCatalogue } from "../../contracts/common/problems.ts";
import { idSchema } from "../../contracts/common/primitives.ts";
import {
  toAlertOfGeneric,
  toAlertsOfAlertmanager,
} from "../../control/autoscaling/alert-formats.ts";
import type { ControlContext } from "../../control/runtime/context.ts";
import { receiveAlerts } from "../../control/autoscaling/receive-alerts.ts";
import { translateError } from "../../control/runtime/errors.ts";
import { type ApiContext, callerOf } from "../http/api-env.ts";
import { bodyProblems, jsonBody, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { hookSenders } from "../http/security.ts";

const hookParameters = z.object({ hookId: idSchema("hook") });
const receipt = jsonResponse(hookReceiptSchema, "What was new is stored.");
const delivery = "Answered 2xx once stored, else 503: never 429 or another 4xx for load.";

export const receiveAlertmanagerRoute = createRoute({
  method: "post",
  path: "/hooks/alertmanager/{hookId}",
  operationId: "receiveAlertmanager",
  tags: ["hooks"],
  summary: "Take in a delivery of Alertmanager's webhook",
  description: `${delivery} The same delivery twice is one.`,
  security: hookSenders,
  request: { params: hookParameters, body: jsonBody(alertmanagerDelivery) },
  responses: { 200: receipt, ...bodyProblems },
});

export const receiveGenericRoute = createRoute({
  method: "post",
  path: "/hooks/generic/{hookId}",
  operationId: "receiveGeneric",
  tags: ["hooks"],
  summary: "Take in one alert in Berth's own format",
  description: `${delivery} The same key and start is the same alert.`,
  security: hookSenders,
  request: { params: hookParameters, body: jsonBody(genericDelivery) },
  responses: { 200: receipt, ...bodyProblems },
});

export const receiveAlertmanagerHandler: OperationHandler<typeof receiveAlertmanagerRoute> =
  (ctx) => async (c) => {
    const alerts = toAlertsOfAlertmanager(c.req.valid("json"));
    return c.json(await receive(ctx, c, c.req.valid("param").hookId, alerts), 200);
  };

export const receiveGenericHandler: OperationHandler<typeof receiveGenericRoute> =
  (ctx) => async (c) => {
    const alerts = [toAlertOfGeneric(c.req.valid("json"))];
    return c.json(await receive(ctx, c, c.req.valid("param").hookId, alerts), 200);
  };

/** A hook's token is good for its own hook only; any other is as if it were not there. Faults of ours become 503. */
async function receive(ctx: ControlContext, c: ApiContext, hookId: string, alerts: Alert[]) {
  if (callerOf(c).hookId !== hookId) throw notFound("hook");
  try {
    return await receiveAlerts(ctx, hookId, alerts);
  } catch (thrown) {
    const error = translateError(thrown);
    if (error instanceof AppError && problemCatalogue[error.code].status < 500) throw error;
    throw new AppError("dependency-unavailable", {
      detail: "The alerts could not be stored. Deliver them again.",
      retryAfterMs: 1_000,
      cause: error,
    });
  }
}
