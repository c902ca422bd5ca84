import { createHash } from "node:crypto";
import {
  type Alert,
  type Delivery,
  type FalconDelivery,
  type GenericDelivery,
  webhookAlert,
  type WebhookAlert,
  type WebhookDelivery,
  type ZabbixDelivery,
} from "../../contracts/api/alert-deliveries.ts";

/** Longer keys become a hash, because an index contains them. */
const KEY_CHARS_MAX = 128;

/**
 * Reads a delivery of Alertmanager's or Grafana's webhook. Each alert that is not valid becomes an
 * error of its own, so that the others still count.
 */
export function parseWebhookDelivery(body: WebhookDelivery): Delivery {
  const delivery: Delivery = {
    alerts: [],
    truncatedAlerts: body.truncatedAlerts ?? 0,
    errors: [],
  };
  for (const [index, alert] of body.alerts.entries()) {
    const parsed = webhookAlert.safeParse(alert);
    if (parsed.success) delivery.alerts.push(parseWebhookAlert(parsed.data));
    else {
      const issue = parsed.error.issues[0];
      const pointer = ["/alerts", index, ...(issue?.path ?? [])].map(String).join("/");
      delivery.errors.push({ pointer, detail: issue?.message.replace(/\.$/, "") ?? "not valid" });
    }
  }
  return delivery;
}

function parseWebhookAlert(alert: WebhookAlert): Alert {
  const { status, startsAt, labels } = alert;
  const key = alert.fingerprint ?? hashText(labelsText(labels));
  // The `endsAt` of a firing alert is the zero time, or the time at which it would time out:
  // neither is its end.
  const endsAt = status === "resolved" ? (alert.endsAt ?? undefined) : undefined;
  return { key, status, startsAt, labels, ...(endsAt === undefined ? {} : { endsAt }) };
}

/** The same labels give the same text, in whatever order the sender lists them. */
function labelsText(labels: Readonly<Record<string, string>>): string {
  const names = Object.keys(labels).toSorted();
  return JSON.stringify(names.map((name) => [name, labels[name]]));
}

/** Reads the one alert of a generic delivery. Its key is the sender's name for the alert. */
export function parseGenericDelivery(body: GenericDelivery): Delivery {
  const { key, status, startsAt, labels } = body;
  return toDelivery({ key, status, startsAt, labels, name: key });
}

/**
 * Reads the one problem of a Zabbix message. The event id is the key, because each problem event is
 * one episode of an alert. The trigger on its host names the alert. Tags become labels; Zabbix's
 * own members take precedence over tags of their names.
 */
export function parseZabbixDelivery(body: ZabbixDelivery): Delivery {
  const tags = body.tags.map(({ tag, value }): [string, string] => [tag, value]);
  const { name, host, severity, triggerId } = body;
  return toDelivery({
    key: boundedKey(body.eventId),
    status: body.value === "1" ? "firing" : "resolved",
    startsAt: undefined,
    labels: {
      ...Object.fromEntries(tags.toReversed()),
      alertname: name,
      host,
      severity,
      trigger: triggerId,
    },
    name: `${triggerId} ${host}`,
    hasUniqueKey: true,
  });
}

/**
 * Reads a callback of Open-Falcon. It carries no id of the alert: the strategy or expression, the
 * endpoint, the metric and the tags name it. Its time has no zone, so the alert begins when its
 * first callback arrives.
 */
export function parseFalconDelivery(body: FalconDelivery): Delivery {
  const pairs = body.tags.split(",").filter((pair) => pair !== "");
  const tags = pairs.map((pair): [string, string] => {
    const at = pair.indexOf(":");
    return at < 0 ? [pair, ""] : [pair.slice(0, at), pair.slice(at + 1)];
  });
  const { endpoint, metric, priority } = body;
  const source = [body.tpl_id, body.exp_id, body.stra_id, endpoint, metric];
  const key = [...source, ...pairs.toSorted()].join("/");
  return toDelivery({
    key: boundedKey(key),
    status: body.status === "PROBLEM" ? "firing" : "resolved",
    startsAt: undefined,
    labels: { ...Object.fromEntries(tags), alertname: metric, endpoint, metric, priority },
    name: key,
  });
}

function toDelivery(alert: Alert): Delivery {
  return { alerts: [alert], truncatedAlerts: 0, errors: [] };
}

function boundedKey(key: string): string {
  return key.length > KEY_CHARS_MAX ? hashText(key) : key;
}

function hashText(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
