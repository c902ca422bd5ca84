import { readFile } from "node:fs/promises";
import vm from "node:vm";
import { afterAll, beforeAll, expect, it } from "vitest";
import { parse } from "yaml";
import type { Hook } from "../../../src/contracts/api/autoscaling.ts";
import { findRule } from "../../../src/scheduler/autoscaling/find-rule.ts";
import { createTestApi, serviceBody, type TestApi } from "../../support/api/test-api.ts";

/** The examples and the bodies that docs/guides/autoscaling.md shows, against the API. */
let test: TestApi;
let hook: Hook;
let hookToken: string;

beforeAll(async () => {
  test = await createTestApi();
  const token = await test.tokenOf("tenant", "acme");
  const body = serviceBody("web", { replicas: 1, autoscale: { min: 1, max: 9 } });
  await test.request("POST", "/v1/services", { token, body });
  const created = await test.request("POST", "/v1/services/web/hooks", {
    token,
    body: { name: "alerts", rules: [{ want: { step: 2 } }] },
  });
  ({ hook, token: hookToken } = (await created.json()) as { hook: Hook; token: string });
});
afterAll(() => test.close());

async function readExample(path: string): Promise<string> {
  return readFile(new URL(`../../../examples/${path}`, import.meta.url), "utf8");
}

async function demandsOf(key: string): Promise<{ state: string; labels: object }[]> {
  const token = await test.tokenOf("tenant", "acme");
  const response = await test.request("GET", "/v1/services/web/demands", { token });
  const { items } = (await response.json()) as {
    items: { key: string; state: string; labels: object }[];
  };
  return items.filter((demand) => demand.key === key);
}

/**
 * Runs the media type's script as Zabbix does: a function body with `value`, and an HTTP client
 * that collects requests.
 */
async function runMediaType(parameters: Record<string, string>): Promise<Response | undefined> {
  const sent: { url: string; body: string; headers: Record<string, string> }[] = [];
  class HttpRequest {
    #headers: Record<string, string> = {};
    addHeader(header: string): void {
      const at = header.indexOf(": ");
      this.#headers[header.slice(0, at).toLowerCase()] = header.slice(at + 2);
    }
    post(url: string, body: string): string {
      sent.push({ url, body, headers: this.#headers });
      return "{}";
    }
    getStatus(): number {
      return 200;
    }
  }
  const script = await readExample("zabbix/berth-media-type.js");
  vm.runInNewContext(`(function () { ${script} })()`, {
    HttpRequest,
    value: JSON.stringify({ url: hook.paths.zabbix, token: hookToken, ...parameters }),
  });
  const [request] = sent;
  if (!request) return undefined;
  const { url, body, headers } = request;
  return test.api.app.request(url, { method: "POST", body, headers });
}

const problem = {
  eventId: "5713",
  value: "1",
  update: "0",
  triggerId: "18114",
  host: "web-1",
  name: "CPU is busy",
  severity: "High",
  tags: '[{"tag":"app","value":"menu"}]',
};

it("Zabbix's media type delivers a problem once and its recovery, and skips updates", async () => {
  expect((await runMediaType(problem))?.status).toBe(200);
  expect((await runMediaType(problem))?.status).toBe(200);
  expect(await runMediaType({ ...problem, update: "1" })).toBeUndefined();
  expect(await demandsOf("5713")).toMatchObject([
    { state: "firing", labels: { alertname: "CPU is busy", app: "menu", host: "web-1" } },
  ]);
  expect((await runMediaType({ ...problem, value: "0" }))?.status).toBe(200);
  expect((await runMediaType(problem))?.status).toBe(200);
  expect((await demandsOf("5713")).map((demand) => demand.state)).toEqual(["resolved"]);
});

it("Open-Falcon's callback is a GET request with the token as the password", async () => {
  const call = (status: string) => {
    const query = new URLSearchParams({
      endpoint: "host-17",
      metric: "cpu.busy",
      status,
      step: "1",
      priority: "0",
      time: "2026-01-05 11:00:00",
      tpl_id: "3",
      exp_id: "0",
      stra_id: "7",
      left_value: "97.2",
      tags: "app:menu",
    });
    const basic = Buffer.from(`berth:${hookToken}`).toString("base64");
    const headers = { authorization: `Basic ${basic}` };
    return test.api.app.request(`${hook.paths.falcon}?${query.toString()}`, { headers });
  };
  const key = "3/0/7/host-17/cpu.busy/app:menu";
  expect([(await call("PROBLEM")).status, (await call("PROBLEM")).status]).toEqual([200, 200]);
  expect(await demandsOf(key)).toMatchObject([{ state: "firing", labels: { app: "menu" } }]);
  expect((await call("OK")).status).toBe(200);
  expect(await demandsOf(key)).toMatchObject([{ state: "resolved" }]);
  expect((await call("UNKNOWN")).status).toBe(422);
});

it("Open-Falcon's alert as JSON, and the generic format, raise demands", async () => {
  const send = (path: string, body: object) =>
    test.request("POST", path, { token: hookToken, body });
  const falcon = { endpoint: "host-18", metric: "load", status: "PROBLEM", tags: "" };
  expect((await send(hook.paths.falcon, falcon)).status).toBe(200);
  expect(await demandsOf("0/0/0/host-18/load")).toHaveLength(1);
  const generic = { key: "queue-long", status: "firing", labels: { alertname: "QueueLong" } };
  expect((await send(hook.paths.generic, generic)).status).toBe(200);
  expect(await demandsOf("queue-long")).toMatchObject([{ state: "firing" }]);
});

it("the Prometheus example raises an alert that the guide's rules match, without a value in a label", async () => {
  const { groups } = parse(await readExample("prometheus/alerts.yml")) as {
    groups: { rules: { alert: string; expr: string; labels: Record<string, string> }[] }[];
  };
  const [rule] = groups[0]?.rules ?? [];
  const labels = { alertname: rule?.alert ?? "", ...rule?.labels };
  const match = { alertname: "CpuHigh", severity: "page" };
  expect(findRule([{ match, want: { factor: 2 } }], labels)).toBeDefined();
  expect(Object.values(labels).join("")).not.toContain("$value");
});
