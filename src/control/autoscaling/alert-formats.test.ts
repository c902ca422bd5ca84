import { describe, expect, it } from "vitest";
import { alertmanagerDelivery, genericDelivery } from "../../contracts/api/autoscaling.ts";
import { toAlertOfGeneric, toAlertsOfAlertmanager } from "./alert-formats.ts";

/** As Alertmanager 0.25 sends it, with a member that only later versions have. */
const delivery = {
  version: "4",
  groupKey: '{}/{team="food"}:{alertname="SetCpuHigh"}',
  truncatedAlerts: 0,
  receiver: "scaler",
  status: "firing",
  notification_reason: "first notification",
  groupLabels: { alertname: "SetCpuHigh" },
  commonLabels: { alertname: "SetCpuHigh" },
  commonAnnotations: {},
  externalURL: "http://am.internal:9093",
  alerts: [
    {
      status: "firing",
      labels: { alertname: "SetCpuHigh", app: "menu" },
      annotations: { scale: "up" },
      startsAt: "2026-01-05T03:00:00.123456789Z",
      endsAt: "0001-01-01T00:00:00Z",
      generatorURL: "http://prom/graph?g0.expr=x",
      fingerprint: "9f2a61c7d0b1e4aa",
    },
    {
      status: "resolved",
      labels: { alertname: "SetCpuHigh", app: "shop" },
      annotations: {},
      startsAt: "2026-01-05T05:00:00+02:00",
      endsAt: "2026-01-05T03:10:00Z",
      generatorURL: "",
      fingerprint: "aa2a61c7d0b1e4aa",
    },
  ],
};

describe("alerts of Alertmanager's webhook", () => {
  it("are told by fingerprint and start; only what is over has an end", () => {
    expect(toAlertsOfAlertmanager(alertmanagerDelivery.parse(delivery))).toEqual([
      {
        key: "9f2a61c7d0b1e4aa",
        status: "firing",
        startsAt: "2026-01-05T03:00:00.123456789Z",
        labels: { alertname: "SetCpuHigh", app: "menu" },
      },
      {
        key: "aa2a61c7d0b1e4aa",
        status: "resolved",
        startsAt: "2026-01-05T05:00:00+02:00",
        endsAt: "2026-01-05T03:10:00Z",
        labels: { alertname: "SetCpuHigh", app: "shop" },
      },
    ]);
  });

  it("are refused in another version of the format", () => {
    expect(alertmanagerDelivery.safeParse({ ...delivery, version: "1" }).success).toBe(false);
  });
});

describe("an alert of the generic format", () => {
  it("needs no more than a key and a status", () => {
    const parsed = genericDelivery.parse({ key: "queue-long", status: "firing" });
    expect(toAlertOfGeneric(parsed)).toEqual({
      key: "queue-long",
      status: "firing",
      startsAt: undefined,
      labels: {},
    });
  });
});
