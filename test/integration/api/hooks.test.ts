import { afterAll, beforeAll, expect, it } from "vitest";
import type { Hook } from "../../../src/contracts/api/autoscaling.ts";
import { createTestApi, serviceBody, type TestApi } from "../../support/api/test-api.ts";

let test: TestApi;
let token: string;
const hooks: { hook: Hook; token: string }[] = [];

beforeAll(async () => {
  test = await createTestApi();
  token = await test.tokenOf("tenant", "acme");
  await test.request("POST", "/v1/services", {
    token,
    body: serviceBody("web", { replicas: 1, autoscale: { min: 1, max: 9 } }),
  });
  for (const name of ["first", "second"]) {
    const body = { name, rules: [{ want: { step: 2 } }] };
    const response = await test.request("POST", "/v1/services/web/hooks", { token, body });
    expect(response.status).toBe(201);
    hooks.push((await response.json()) as { hook: Hook; token: string });
  }
});
afterAll(() => test.close());

const hookOf = (index: number) => {
  const made = hooks[index];
  if (!made) throw new Error("no such hook");
  return made;
};
const delivery = (fingerprint: string, status = "firing") => ({
  receiver: "berth",
  version: "4",
  groupKey: "{}",
  status,
  truncatedAlerts: 0,
  alerts: [
    {
      status,
      labels: { alertname: "Busy" },
      annotations: {},
      startsAt: "2026-01-05T12:00:00.000Z",
      endsAt: status === "firing" ? "0001-01-01T00:00:00Z" : "2026-01-05T12:05:00Z",
      generatorURL: "http://prometheus/graph",
      fingerprint,
    },
  ],
});
const deliver = (index: number, body: unknown, headers: Record<string, string> = {}) =>
  test.request("POST", hookOf(index).hook.paths.alertmanager, {
    token: hookOf(index).token,
    body,
    headers,
  });
async function demands(): Promise<{ key: string; state: string }[]> {
  const response = await test.request("GET", "/v1/services/web/demands", { token });
  return ((await response.json()) as { items: { key: string; state: string }[] }).items;
}

it("stores a delivery as a demand, and a repeated delivery changes nothing (I8)", async () => {
  const [first, second] = [await deliver(0, delivery("f1")), await deliver(0, delivery("f1"))];
  expect([first.status, second.status]).toEqual([200, 200]);
  expect(await demands()).toMatchObject([{ key: "f1", state: "firing" }]);
});

it("accepts the token as the password of Basic credentials", async () => {
  const basic = Buffer.from(`alertmanager:${hookOf(0).token}`).toString("base64");
  const response = await deliver(0, delivery("f2"), { authorization: `Basic ${basic}` });
  expect(response.status).toBe(200);
});

it("answers 404 to the token of another hook", async () => {
  const response = await test.request("POST", hookOf(1).hook.paths.alertmanager, {
    token: hookOf(0).token,
    body: delivery("f3"),
  });
  expect(response.status).toBe(404);
  expect((await demands()).map((demand) => demand.key)).not.toContain("f3");
});

it("accepts an alert whose text the database cannot store", async () => {
  const body = { key: "odd\u0000key", status: "firing", labels: { a: "\ud800" } };
  const response = await test.request("POST", hookOf(1).hook.paths.generic, {
    token: hookOf(1).token,
    body,
  });
  expect(response.status).toBe(200);
});

it("answers 503 while the database is unreachable, so that the sender retries", async () => {
  const { drizzle } = await import("drizzle-orm/postgres-js");
  const { default: postgres } = await import("postgres");
  const { createMountedApi } = await import("../../../src/routes/app.ts");
  const client = postgres("postgres://127.0.0.1:1/none", { max: 1, connect_timeout: 1 });
  const unreachable = createMountedApi({ ...test.ctx, db: drizzle(client) }, { version: "0" });
  const response = await unreachable.app.request(hookOf(0).hook.paths.alertmanager, {
    method: "POST",
    headers: { authorization: `Bearer ${hookOf(0).token}`, "content-type": "application/json" },
    body: JSON.stringify(delivery("f4")),
  });
  expect(response.status).toBe(503);
  expect(response.headers.get("retry-after")).toBe("1");
  const ready = await unreachable.app.request("/readyz");
  const alive = await unreachable.app.request("/healthz");
  expect([ready.status, alive.status]).toEqual([503, 200]);
  await client.end({ timeout: 1 });
});

it("rejects deliveries to a deleted hook, and its token", async () => {
  const { hook } = hookOf(1);
  const deleted = await test.request("DELETE", `/v1/services/web/hooks/${hook.id}`, { token });
  expect(deleted.status).toBe(204);
  expect((await deliver(1, delivery("f5"))).status).toBe(401);
  const listed = await test.request("GET", "/v1/services/web/hooks", { token });
  const { items } = (await listed.json()) as { items: Hook[] };
  expect(items.map((it) => it.name)).toEqual(["first"]);
});

const manyAlerts = (count: number, more: object = {}) => ({
  ...delivery("none"),
  groupKey: "{}:{" + "x".repeat(100_000) + "}",
  alerts: Array.from({ length: count }, (_, index) => ({
    ...delivery("none").alerts[0],
    fingerprint: `storm-${index}`,
    ...more,
  })),
});

it("accepts thousands of alerts with long labels and annotations, without a 4xx", async () => {
  const long = { description: "y".repeat(20_000) };
  const labels = { alertname: "Busy", stack: "z".repeat(9_000) };
  const few = await deliver(0, manyAlerts(20, { annotations: long, labels }));
  expect([few.status, await few.json()]).toEqual([200, { accepted: 20, ignored: 0 }]);
  const many = await deliver(
    0,
    manyAlerts(5_000, { annotations: { description: "y".repeat(1_500) } }),
  );
  expect([many.status, await many.json()]).toEqual([200, { accepted: 5_000, ignored: 0 }]);
  const again = await deliver(0, manyAlerts(5_000));
  expect([again.status, await again.json()]).toEqual([200, { accepted: 5_000, ignored: 0 }]);
  const over = await deliver(0, manyAlerts(5_000, { status: "resolved" }));
  expect([over.status, await over.json()]).toEqual([200, { accepted: 5_000, ignored: 0 }]);
});

it("answers 503 to a delivery above the limit, so that the sender retries", async () => {
  const huge = await deliver(0, manyAlerts(600, { annotations: { text: "y".repeat(60_000) } }));
  expect(huge.status).toBe(503);
  expect(huge.headers.get("retry-after")).toBe("10");
  expect(await huge.json()).toMatchObject({ code: "delivery-too-large" });
});
