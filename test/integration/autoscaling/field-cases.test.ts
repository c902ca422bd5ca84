import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { BerthEvent } from "../../../src/contracts/api/events.ts";
import type { Service } from "../../../src/contracts/api/services.ts";
import { autoscaleService } from "../../../src/control/autoscaling/autoscale-service.ts";
import { createTestApi, serviceBody, type TestApi } from "../../support/api/test-api.ts";

/** Deliveries of senders in the field, over HTTP. A case's name is that of its report. */
let test: TestApi;
let token: string;
let serviceCount = 0;

beforeAll(async () => {
  test = await createTestApi();
  token = await test.tokenOf("tenant", "acme");
});
afterAll(() => test.close());

interface Case {
  service: string;
  deliver(body: unknown, format?: string): Promise<Response>;
  /** The desired replicas after a decision. */
  decide(): Promise<number>;
  events(kind: string): Promise<BerthEvent[]>;
}

async function createCase(want: Record<string, unknown>): Promise<Case> {
  const service = `case-${++serviceCount}`;
  const autoscale = { min: 1, max: 50 };
  const body = serviceBody(service, { replicas: 3, autoscale });
  await test.request("POST", "/v1/services", { token, body });
  const created = await test.request("POST", `/v1/services/${service}/hooks`, {
    token,
    body: { name: "alerts", rules: [{ match: { alertname: "CpuHigh" }, want }] },
  });
  const { hook, token: hookToken } = (await created.json()) as {
    hook: { id: string };
    token: string;
  };
  const read = async () =>
    (await (await test.request("GET", `/v1/services/${service}`, { token })).json()) as Service;
  return {
    service,
    deliver: async (delivery, format = "alertmanager") =>
      test.request("POST", `/hooks/${format}/${hook.id}`, { token: hookToken, body: delivery }),
    decide: async () => {
      await autoscaleService(test.ctx, (await read()).id);
      return (await read()).desiredReplicas;
    },
    events: async (kind) => {
      const path = `/v1/events?service=${service}&kind=${kind}`;
      const response = await test.request("GET", path, { token });
      return ((await response.json()) as { items: BerthEvent[] }).items;
    },
  };
}

const startMs = Date.UTC(2026, 0, 5, 3);
const timeOf = (seconds: number) => new Date(startMs + seconds * 1_000).toISOString();

function alert(
  fingerprint: string,
  status: "firing" | "resolved",
  startSeconds = 0,
  labels: Record<string, string> = {},
) {
  const endsAt = status === "firing" ? "0001-01-01T00:00:00Z" : timeOf(startSeconds + 10);
  return {
    status,
    labels: { alertname: "CpuHigh", ...labels },
    annotations: {},
    startsAt: timeOf(startSeconds),
    endsAt,
    fingerprint,
  };
}

const webhook = (alerts: unknown[], more: object = {}) => ({ version: "4", alerts, ...more });

describe("A3: an alert whose label carries its value", () => {
  it.each([{ want: { step: 2 } }, { want: { step: 2, stacks: true } }])(
    "adds one step, however often its fingerprint changes ($want)",
    async ({ want }) => {
      const menu = await createCase(want);
      for (let round = 0; round < 20; round++) {
        const value = (at: number) => ({ value: `${90 + at}.${at}`, instance: "a" });
        const alerts = [alert(`f${round}`, "firing", round * 30, value(round))];
        if (round > 0) {
          const former = alert(`f${round - 1}`, "resolved", (round - 1) * 30, value(round - 1));
          alerts.push(former);
        }
        expect((await menu.deliver(webhook(alerts))).status).toBe(200);
        expect(await menu.decide()).toBe(5);
      }
    },
  );
});

describe("A4: an alert that flaps within its stabilization window", () => {
  it.each([
    { want: { step: 2 }, size: 5 },
    { want: { factor: 2 }, size: 6 },
  ])("scales to $size and stays there ($want)", async ({ want, size }) => {
    const menu = await createCase(want);
    for (let flap = 0; flap < 8; flap++) {
      await menu.deliver(webhook([alert("f1", "firing", flap * 12)]));
      expect(await menu.decide()).toBe(size);
      await menu.deliver(webhook([alert("f1", "resolved", flap * 12)]));
      expect(await menu.decide()).toBe(size);
    }
  });
});

describe("A4b: the grouping of alerts into deliveries", () => {
  const keys = ["a", "b", "c", "d", "e"];
  it("changes nothing: five alerts of a rule add one step", async () => {
    const alerts = keys.map((key) => alert(key, "firing"));
    const [together, apart] = [await createCase({ step: 1 }), await createCase({ step: 1 })];
    await together.deliver(webhook(alerts));
    for (const one of alerts) await apart.deliver(webhook([one]));
    expect([await together.decide(), await apart.decide()]).toEqual([4, 4]);
  });

  it("changes nothing: two alerts of a rule that stacks add two steps over one base", async () => {
    const alerts = keys.slice(0, 2).map((key) => alert(key, "firing", 0, { instance: key }));
    const want = { step: 2, stacks: true };
    const [together, apart] = [await createCase(want), await createCase(want)];
    await together.deliver(webhook(alerts));
    for (const one of alerts) await apart.deliver(webhook([one]));
    expect([await together.decide(), await apart.decide()]).toEqual([7, 7]);
  });
});

describe("A6: a delivery that leaves out alerts", () => {
  it("resolves only the alerts that it names, and one event reports it", async () => {
    const menu = await createCase({ step: 2 });
    const keys = ["a", "b", "c", "d", "e"];
    await menu.deliver(webhook(keys.map((key) => alert(key, "firing"))));
    const rest = webhook(
      keys.slice(0, 2).map((key) => alert(key, "resolved")),
      { truncatedAlerts: 3 },
    );
    for (let time = 0; time < 2; time++) expect((await menu.deliver(rest)).status).toBe(200);
    const response = await test.request("GET", `/v1/services/${menu.service}/demands`, { token });
    const { items } = (await response.json()) as { items: { state: string }[] };
    expect(items.filter((demand) => demand.state === "firing")).toHaveLength(3);
    expect(await menu.events("alerts-truncated")).toMatchObject([{ data: { truncatedAlerts: 3 } }]);
  });
});

describe("A7: a delivery of Grafana", () => {
  const body = webhook(
    [{ ...alert("f1", "firing", 0, { grafana_folder: "监控" }), values: null, valueString: "[ ]" }],
    {
      version: "1",
      orgId: 1,
      title: "[FIRING:1]",
      state: "alerting",
      message: "…",
      receiver: "berth",
      truncatedAlerts: 0,
    },
  );

  it.each(["grafana", "alertmanager"])("is accepted at /hooks/%s", async (format) => {
    const menu = await createCase({ step: 2 });
    const response = await menu.deliver(body, format);
    expect([response.status, await response.json()]).toEqual([200, { accepted: 1, ignored: 0 }]);
    expect(await menu.decide()).toBe(5);
  });
});

describe("a malformed alert", () => {
  it("does not affect the other alerts of its delivery", async () => {
    const menu = await createCase({ step: 2 });
    const alerts = [{ ...alert("a", "firing"), startsAt: "yesterday" }, alert("b", "firing"), 7];
    const response = await menu.deliver(webhook(alerts));
    expect(response.status).toBe(200);
    expect(await response.json()).toMatchObject({
      accepted: 1,
      ignored: 2,
      errors: [
        { pointer: "/alerts/0/startsAt", detail: "must be an ISO 8601 timestamp" },
        { pointer: "/alerts/2" },
      ],
    });
    expect(await menu.decide()).toBe(5);
  });

  it("a delivery of malformed alerts only is an error that names the member", async () => {
    const menu = await createCase({ step: 2 });
    const response = await menu.deliver(
      webhook([{ ...alert("a", "firing"), startsAt: "yesterday" }]),
    );
    expect(response.status).toBe(422);
    expect(await response.json()).toMatchObject({
      detail:
        "The delivery has no valid alert: `/alerts/0/startsAt` must be an ISO 8601 timestamp.",
      errors: [{ pointer: "/alerts/0/startsAt", detail: "must be an ISO 8601 timestamp" }],
    });
  });
});
