import type {
  Alert,
  AlertmanagerDelivery,
  GenericDelivery,
} from "../../contracts/api/autoscaling.ts";

/** Alerts of one delivery of Alertmanager's webhook, in its order. */
export function toAlertsOfAlertmanager(delivery: AlertmanagerDelivery): Alert[] {
  return delivery.alerts.map((alert) => ({
    key: alert.fingerprint,
    status: alert.status,
    startsAt: alert.startsAt,
    // Of a firing alert it is the zero time (0001-01-01), or when it would time out: neither is its end.
    ...(alert.status === "resolved" && alert.endsAt !== undefined ? { endsAt: alert.endsAt } : {}),
    labels: alert.labels,
  }));
}

/** The one alert of a generic delivery. */
export function toAlertOfGeneric(delivery: GenericDelivery): Alert {
  const { key, status, startsAt, labels } = delivery;
  return { key, status, startsAt, labels };
}
