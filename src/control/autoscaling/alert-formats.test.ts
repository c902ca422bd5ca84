import { describe, expect, it } from "vitest";
import {
  falconDelivery,
  genericDelivery,
  webhookDelivery,
  zabbixDelivery,
} from "../../contracts/api/alert-deliveries.ts";
import {
  parseFalconDelivery,
  parseGenericDelivery,
  parseWebhookDelivery,
  parseZabbixDelivery,
} from "./alert-formats.ts";

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
const parseWebhook = (body: unknown) => parseWebhookDelivery(webhookDelivery.parse(body));

describe("a delivery of Alertmanager's webhook", () => {
  it("names alerts by fingerprint and start; only a resolved alert has an end", () => {
    expect(parseWebhook(delivery)).toEqual({
      alerts: [
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
      ],
      truncatedAlerts: 0,
      errors: [],
    });
  });

  it("retains its valid alerts when others are malformed, and names each fault", () => {
    const broken = { ...delivery.alerts[0], status: "burning", labels: { a: { b: 1 } } };
    const { alerts, errors } = parseWebhook({
      ...delivery,
      alerts: [broken, null, delivery.alerts[1]],
    });
    expect(alerts.map((alert) => alert.key)).toEqual(["aa2a61c7d0b1e4aa"]);
    expect(errors.map((error) => error.pointer)).toEqual(["/alerts/0/status", "/alerts/1"]);
  });

  it("may lack fingerprints and contain labels that are not text: equal labels are one key", () => {
    const [first] = delivery.alerts;
    const without = (labels: object) => ({ ...first, labels, fingerprint: undefined });
    const alerts = [
      without({ a: 1, b: null, c: true }),
      without({ c: "true", b: "", a: "1" }),
      without({ a: "2" }),
    ];
    const keys = parseWebhook({ alerts }).alerts.map((alert) => alert.key);
    expect(keys[0]).toBe(keys[1]);
    expect(keys[0]).not.toBe(keys[2]);
  });
});

describe("an alert of the generic format", () => {
  it("needs a key and a status only; its key is its name", () => {
    const parsed = genericDelivery.parse({ key: "queue-long", status: "firing" });
    expect(parseGenericDelivery(parsed).alerts).toEqual([
      { key: "queue-long", status: "firing", startsAt: undefined, labels: {}, name: "queue-long" },
    ]);
  });
});

describe("a message of Zabbix", () => {
  const body = {
    eventId: "5713",
    value: "1",
    triggerId: "18114",
    host: "web-1",
    name: "CPU is 97% busy",
    severity: "High",
    tags: [
      { tag: "app", value: "menu" },
      { tag: "host", value: "forged" },
      { tag: "app", value: "second" },
    ],
  };

  it("is one episode of an alert with the name of its trigger and host, and its tags replace no member of Zabbix", () => {
    expect(parseZabbixDelivery(zabbixDelivery.parse(body)).alerts).toEqual([
      {
        key: "5713",
        status: "firing",
        startsAt: undefined,
        labels: {
          app: "menu",
          alertname: "CPU is 97% busy",
          host: "web-1",
          severity: "High",
          trigger: "18114",
        },
        name: "18114 web-1",
        hasUniqueKey: true,
      },
    ]);
  });

  it("resolves the problem if its value is 0; another value is not valid", () => {
    const recovery = zabbixDelivery.parse({ ...body, value: 0 });
    expect(parseZabbixDelivery(recovery).alerts[0]?.status).toBe("resolved");
    expect(zabbixDelivery.safeParse({ ...body, value: "{EVENT.VALUE}" }).success).toBe(false);
  });
});

describe("a callback of Open-Falcon", () => {
  const query = {
    endpoint: "host-17",
    metric: "cpu.busy",
    status: "PROBLEM",
    step: "1",
    priority: "0",
    time: "2026-01-05 11:00:00",
    tpl_id: "3",
    exp_id: "0",
    stra_id: "7",
    left_value: "97.2",
    tags: "set:menu-3,app:menu",
  };

  it("names the alert by its strategy, endpoint, metric and tags, whose order does not matter", () => {
    const [first] = parseFalconDelivery(falconDelivery.parse(query)).alerts;
    expect(first).toMatchObject({
      key: "3/0/7/host-17/cpu.busy/app:menu/set:menu-3",
      status: "firing",
      labels: { alertname: "cpu.busy", endpoint: "host-17", set: "menu-3", app: "menu" },
    });
    const ok = { ...query, status: "OK", step: "2", left_value: "3", tags: "app:menu,set:menu-3" };
    expect(parseFalconDelivery(falconDelivery.parse(ok)).alerts[0]).toMatchObject({
      key: first?.key,
      status: "resolved",
    });
  });

  it("has a key of bounded length", () => {
    const long = falconDelivery.parse({ ...query, tags: `app:${"x".repeat(500)}` });
    expect(parseFalconDelivery(long).alerts[0]?.key).toHaveLength(64);
  });
});
