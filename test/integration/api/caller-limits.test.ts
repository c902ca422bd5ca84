import { sql } from "drizzle-orm";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { SyncResult } from "../../../src/contracts/agent-protocol/sync.ts";
import type { BerthSet } from "../../../src/contracts/api/sets.ts";
import type { Service } from "../../../src/contracts/api/services.ts";
import { createPlacer } from "../../../src/control/placement/place-pending-sets.ts";
import { withTx } from "../../../src/db/transaction.ts";
import {
  createTestApi,
  emptySync,
  enrollTestHost,
  serviceBody,
  type TestApi,
} from "../../support/api/test-api.ts";

const LONG_REQUESTS_MAX = 50;
const LOGS_PER_TENANT_AND_HOST_MAX = 8;
const EXPLANATIONS_PER_TENANT_MAX = 4;

let test: TestApi;
let acme: string;
let globex: string;
const usage = {
  used: { cpuMillis: 100, memoryBytes: 1, volumeBytes: 0, rootfsBytes: 1 },
  allocatable: { cpuMillis: 8_000, memoryBytes: 2 ** 33, volumeBytes: 0, rootfsBytes: 2 ** 36 },
};

const running = {
  state: "running",
  ready: true,
  reason: null,
  gaveUp: false,
  address: "172.17.0.2",
  containers: [
    {
      name: "app",
      state: "running",
      ready: true,
      dockerId: "d1",
      restarts: 0,
      exitCode: null,
      startedAt: "2026-01-05T12:00:00.000Z",
      reason: null,
    },
  ],
};

beforeAll(async () => {
  test = await createTestApi();
  acme = await test.tokenOf("tenant", "acme");
  globex = await test.tokenOf("tenant", "globex");
  const { credential } = await enrollTestHost(test, "host-1");
  const sync = async (parts: object) => {
    const body = { ...emptySync, ...parts };
    const response = await test.request("POST", "/agent/v1/sync", { token: credential, body });
    return (await response.json()) as SyncResult;
  };
  await sync({ usage });
  for (const token of [acme, globex])
    await test.request("POST", "/v1/services", { token, body: serviceBody("web") });
  await createPlacer(test.ctx).placeSets();
  const { sets } = await sync({});
  await sync({
    observed: sets.map(({ setId, generation }) => ({ ...running, setId, generation })),
  });
});
afterAll(() => test.close());

describe("streams and waits of a token", () => {
  const wait = (token: string, signal: AbortSignal) =>
    test.request("GET", "/v1/services/web/wait?for=deleted&timeoutSeconds=60", { token, signal });
  const stream = (token: string, signal: AbortSignal) =>
    test.request("GET", "/v1/events", { token, signal, headers: { accept: "text/event-stream" } });

  it("are limited for each token, and a slot is free once its request has ended", async () => {
    const client = new AbortController();
    const { signal } = client;
    const waits = Array.from({ length: LONG_REQUESTS_MAX - 1 }, () => wait(acme, signal));
    expect((await stream(acme, signal)).status).toBe(200);
    const refused = await wait(acme, signal);
    expect(refused.status).toBe(429);
    expect(refused.headers.get("retry-after")).toBe("1");
    expect((await stream(acme, signal)).status).toBe(429);
    const other = new AbortController();
    expect((await stream(globex, other.signal)).status).toBe(200);
    other.abort();
    client.abort();
    await Promise.all(waits);
    const again = new AbortController();
    const last = Array.from({ length: LONG_REQUESTS_MAX - 1 }, () => wait(acme, again.signal));
    expect((await stream(acme, again.signal)).status).toBe(200);
    again.abort();
    await Promise.all(last);
  });

  it("release their slot when a stream is refused for its cursor", async () => {
    const token = await test.tokenOf("tenant", "acme");
    for (let round = 0; round <= LONG_REQUESTS_MAX; round++) {
      const response = await test.request("GET", "/v1/events?after=99999999999999999999.0", {
        token,
        headers: { accept: "text/event-stream" },
      });
      expect(response.status).toBe(422);
    }
  });
});

it("open logs are limited for each tenant and host, so that one tenant cannot use all streams of an agent", async () => {
  const client = new AbortController();
  const follow = async (token: string) => {
    const sets = await test.request("GET", "/v1/sets?service=web", { token });
    const { items } = (await sets.json()) as { items: BerthSet[] };
    const path = `/v1/sets/${items[0]?.id}/containers/app/logs?follow=true`;
    return test.request("GET", path, { token, signal: client.signal });
  };
  const open = await Promise.all(
    Array.from({ length: LOGS_PER_TENANT_AND_HOST_MAX }, () => follow(acme)),
  );
  expect(new Set(open.map(({ status }) => status))).toEqual(new Set([200]));
  expect((await follow(acme)).status).toBe(429);
  expect((await follow(globex)).status).toBe(200);
  client.abort();
});

it("explanations of rules are limited for each tenant, and a slot is free once one has ended", async () => {
  const path = "/v1/rules/explain?from=10.0.0.1&to=10.0.0.2&port=80";
  const explain = (token: string) => test.request("GET", path, { token });
  let admitted: Promise<Response>[] = [];
  await withTx(test.ctx.db, async (tx) => {
    await tx.execute(sql`lock table networks in access exclusive mode`);
    const requests = Array.from({ length: EXPLANATIONS_PER_TENANT_MAX + 1 }, () => explain(acme));
    const refused = await Promise.race(requests);
    expect(refused.status).toBe(429);
    expect(refused.headers.get("retry-after")).toBe("1");
    admitted = [...requests, explain(globex)];
  });
  const statuses = (await Promise.all(admitted)).map(({ status }) => status);
  const refusals = statuses.filter((status) => status !== 200);
  expect(refusals).toEqual([429]);
  expect((await explain(acme)).status).toBe(200);
});

it("a token of the role read sees the names of environment variables, and no values", async () => {
  const body = serviceBody("secretive");
  const [container] = body.template.containers;
  const options = { ...container?.options, env: { PASSWORD: "swordfish" } };
  const template = { ...body.template, containers: [{ ...container, options }] };
  await test.request("POST", "/v1/services", { token: acme, body: { ...body, template } });
  const reader = await test.tokenOf("read", "acme");
  const envOf = (service?: Service) => service?.template.containers[0]?.options.env;
  const read = async (token: string) => {
    const one = await test.request("GET", "/v1/services/secretive", { token });
    const page = await test.request("GET", "/v1/services", { token });
    const wait = await test.request(
      "GET",
      "/v1/services/secretive/wait?for=deleted&timeoutSeconds=0",
      { token },
    );
    const { items } = (await page.json()) as { items: Service[] };
    return [
      envOf((await one.json()) as Service),
      envOf(items.find(({ name }) => name === "secretive")),
      envOf(((await wait.json()) as { service: Service }).service),
    ];
  };
  const redacted = { PASSWORD: "[redacted]" };
  expect(await read(reader)).toEqual([redacted, redacted, redacted]);
  const plain = { PASSWORD: "swordfish" };
  expect(await read(acme)).toEqual([plain, plain, plain]);
});
