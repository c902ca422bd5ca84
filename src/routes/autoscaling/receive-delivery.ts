import { createRoute, z } from "@hono/zod-openapi";
import { AppError, notFound } from "../../contracts/common/app-error.ts";
import {
  type Delivery,
  falconDelivery,
  genericDelivery,
  hookReceiptSchema,
  webhookDelivery,
  zabbixDelivery,
} from "../../contracts/api/alert-deliveries.ts";
import { problemCatalog } from "../../contracts/common/problems.ts";
import { idSchema } from "../../contracts/common/primitives.ts";
import {
  parseFalconDelivery,
  parseGenericDelivery,
  parseWebhookDelivery,
  parseZabbixDelivery,
} from "../../control/autoscaling/alert-formats.ts";
import type { ControlContext } from "../../control/runtime/context.ts";
import { receiveAlerts } from "../../control/autoscaling/receive-alerts.ts";
import { translateError } from "../../control/runtime/errors.ts";
import { type ApiContext, getCaller } from "../http/api-env.ts";
import {
  bodyProblems,
  commonProblems,
  jsonBody,
  jsonResponse,
  type OperationHandler,
} from "../http/operation.ts";
import { hookSenders } from "../http/security.ts";

const hookParameters = z.object({ hookId: idSchema("hook") });
const receipt = jsonResponse(hookReceiptSchema, "Berth has stored the delivery.");
const answers =
  "Returns 2xx once the delivery is stored, else 503; never 429 or another 4xx for load.";
const common = { tags: ["hooks"], security: hookSenders };

export const receiveAlertmanagerRoute = createRoute({
  ...common,
  method: "post",
  path: "/hooks/alertmanager/{hookId}",
  operationId: "receiveAlertmanager",
  summary: "Receive a delivery of Alertmanager's webhook",
  description: `${answers} The same delivery twice takes effect once.`,
  request: { params: hookParameters, body: jsonBody(webhookDelivery) },
  responses: { 200: receipt, ...bodyProblems },
});

export const receiveGrafanaRoute = createRoute({
  ...common,
  method: "post",
  path: "/hooks/grafana/{hookId}",
  operationId: "receiveGrafana",
  summary: "Receive a delivery of Grafana's webhook",
  description: `${answers} The same delivery twice takes effect once.`,
  request: { params: hookParameters, body: jsonBody(webhookDelivery) },
  responses: { 200: receipt, ...bodyProblems },
});

export const receiveZabbixRoute = createRoute({
  ...common,
  method: "post",
  path: "/hooks/zabbix/{hookId}",
  operationId: "receiveZabbix",
  summary: "Receive a problem or a recovery from Zabbix",
  description: `${answers} Each event id is one run of an alert.`,
  request: { params: hookParameters, body: jsonBody(zabbixDelivery) },
  responses: { 200: receipt, ...bodyProblems },
});

export const receiveFalconRoute = createRoute({
  ...common,
  method: "get",
  path: "/hooks/falcon/{hookId}",
  operationId: "receiveFalcon",
  summary: "Receive a callback of Open-Falcon's alarm module",
  description: `${answers} Open-Falcon sends a GET request with query parameters and does not retry.`,
  request: { params: hookParameters, query: falconDelivery },
  responses: { 200: receipt, ...commonProblems },
});

export const receiveFalconJsonRoute = createRoute({
  ...common,
  method: "post",
  path: "/hooks/falcon/{hookId}",
  operationId: "receiveFalconJson",
  summary: "Receive an alert of Open-Falcon as JSON",
  description: `${answers} The body has the members of the callback's query.`,
  request: { params: hookParameters, body: jsonBody(falconDelivery) },
  responses: { 200: receipt, ...bodyProblems },
});

export const receiveGenericRoute = createRoute({
  ...common,
  method: "post",
  path: "/hooks/generic/{hookId}",
  operationId: "receiveGeneric",
  summary: "Receive one alert in Berth's own format",
  description: `${answers} The same key and start denote the same alert.`,
  request: { params: hookParameters, body: jsonBody(genericDelivery) },
  responses: { 200: receipt, ...bodyProblems },
});

export const receiveAlertmanagerHandler: OperationHandler<typeof receiveAlertmanagerRoute> =
  (ctx) => async (c) => {
    const delivery = parseWebhookDelivery(c.req.valid("json"));
    return c.json(await receive(ctx, c, c.req.valid("param").hookId, delivery), 200);
  };

export const receiveGrafanaHandler: OperationHandler<typeof receiveGrafanaRoute> =
  (ctx) => async (c) => {
    const delivery = parseWebhookDelivery(c.req.valid("json"));
    return c.json(await receive(ctx, c, c.req.valid("param").hookId, delivery), 200);
  };

export const receiveZabbixHandler: OperationHandler<typeof receiveZabbixRoute> =
  (ctx) => async (c) => {
    const delivery = parseZabbixDelivery(c.req.valid("json"));
    return c.json(await receive(ctx, c, c.req.valid("param").hookId, delivery), 200);
  };

export const receiveFalconHandler: OperationHandler<typeof receiveFalconRoute> =
  (ctx) => async (c) => {
    const delivery = parseFalconDelivery(c.req.valid("query"));
    return c.json(await receive(ctx, c, c.req.valid("param").hookId, delivery), 200);
  };

export const receiveFalconJsonHandler: OperationHandler<typeof receiveFalconJsonRoute> =
  (ctx) => async (c) => {
    const delivery = parseFalconDelivery(c.req.valid("json"));
    return c.json(await receive(ctx, c, c.req.valid("param").hookId, delivery), 200);
  };

export const receiveGenericHandler: OperationHandler<typeof receiveGenericRoute> =
  (ctx) => async (c) => {
    const delivery = parseGenericDelivery(c.req.valid("json"));
    return c.json(await receive(ctx, c, c.req.valid("param").hookId, delivery), 200);
  };

/**
 * A hook's token permits its own hook only. Another hook gets the response of a missing one. Faults
 * of Berth become 503.
 */
async function receive(ctx: ControlContext, c: ApiContext, hookId: string, delivery: Delivery) {
  if (getCaller(c).hookId !== hookId) throw notFound("hook");
  try {
    return await receiveAlerts(ctx, hookId, delivery);
  } catch (thrown) {
    const error = translateError(thrown);
    if (error instanceof AppError && problemCatalog[error.code].status < 500) throw error;
    throw new AppError("dependency-unavailable", {
      detail: "Berth could not store the alerts. Repeat the delivery.",
      retryAfterMs: 1_000,
      cause: error,
    });
  }
}
