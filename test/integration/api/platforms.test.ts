import { once } from "node:events";
import { serve, type ServerType } from "@hono/node-server";
import { afterAll, beforeAll, expect, it } from "vitest";
import { migrateEmbedded } from "../../../src/db/migrate.ts";
import { openPglite } from "../../../src/db/pglite/open-pglite.ts";
import { createMountedApi } from "../../../src/routes/app.ts";
import { ensureBootstrap } from "../../../src/control/tenancy/bootstrap.ts";
import { createLocalSignals } from "../../support/fakes/local-signals.ts";
import { createTestApi, serviceBody, type TestApi } from "../../support/api/test-api.ts";
import { waitUntil } from "../../support/wait-until.ts";

/** The same app behind a real socket, and over the embedded database. */
let test: TestApi;
let server: ServerType;
let baseUrl: string;
let waiting = 0;

beforeAll(async () => {
  const local = createLocalSignals();
  test = await createTestApi({
    signals: {
      publish: (channels) => local.publish(channels),
      waitFor: async (channel, timeoutMs, signal) => {
        waiting += 1;
        const isSignaled = await local.waitFor(channel, timeoutMs, signal);
        waiting -= 1;
        return isSignaled;
      },
    },
  });
  server = serve({ fetch: test.api.app.fetch, port: 0, hostname: "127.0.0.1" });
  if (!server.listening) await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no TCP address");
  baseUrl = `http://127.0.0.1:${address.port}`;
});
afterAll(async () => {
  server.close();
  await test.close();
});

const headers = () => ({
  authorization: `Bearer ${test.adminToken}`,
  "content-type": "application/json",
});

it("rejects a body without a length at the limit", async () => {
  const endless = new ReadableStream<Uint8Array>({
    pull: (controller) => controller.enqueue(new Uint8Array(65_536).fill(32)),
  });
  const response = await fetch(`${baseUrl}/v1/services`, {
    method: "POST",
    headers: headers(),
    body: endless,
    duplex: "half",
  });
  expect(response.status).toBe(413);
});

it("accepts a small body without a length", async () => {
  const text = JSON.stringify(serviceBody("chunked", { replicas: 0 }));
  const chunks = new ReadableStream<Uint8Array>({
    start: (controller) => {
      controller.enqueue(new TextEncoder().encode(text.slice(0, 50)));
      controller.enqueue(new TextEncoder().encode(text.slice(50)));
      controller.close();
    },
  });
  const response = await fetch(`${baseUrl}/v1/services`, {
    method: "POST",
    headers: headers(),
    body: chunks,
    duplex: "half",
  });
  expect(response.status).toBe(201);
});

it("ends a wait on the server when its caller disconnects", async () => {
  await test.request("POST", "/v1/services", {
    token: test.adminToken,
    body: serviceBody("abandoned", { replicas: 1 }),
  });
  const abort = new AbortController();
  const request = fetch(`${baseUrl}/v1/services/abandoned/wait?timeoutSeconds=60`, {
    headers: headers(),
    signal: abort.signal,
  }).catch(() => undefined);
  await waitUntil("the server waits", () => waiting > 0);
  abort.abort();
  await request;
  await waitUntil("the server waits no more", () => waiting === 0);
  expect(waiting).toBe(0);
});

it("ends an event stream on the server when its reader disconnects", async () => {
  const abort = new AbortController();
  const response = await fetch(`${baseUrl}/v1/events`, {
    headers: { ...headers(), accept: "text/event-stream" },
    signal: abort.signal,
  });
  expect(response.status).toBe(200);
  await waitUntil("the server waits", () => waiting > 0);
  abort.abort();
  await waitUntil("the server waits no more", () => waiting === 0);
  expect(waiting).toBe(0);
});

it("serves requests with a key on the embedded database with one connection", async () => {
  const handle = await openPglite("memory://");
  await migrateEmbedded(handle);
  const ctx = { ...test.ctx, db: handle.db };
  const { adminSecret } = await ensureBootstrap(ctx);
  const { app } = createMountedApi(ctx, { version: "0" });
  const authorization = `Bearer ${adminSecret}`;
  const create = () =>
    app.request("/v1/services", {
      method: "POST",
      headers: { authorization, "content-type": "application/json", "idempotency-key": "key" },
      body: JSON.stringify(serviceBody("embedded")),
    });
  const responses = await Promise.all([create(), create(), create()]);
  expect(responses.map((response) => response.status)).toEqual([201, 201, 201]);
  const replays = responses.filter((response) => response.headers.has("idempotency-replayed"));
  expect(replays).toHaveLength(2);
  const listed = await app.request("/v1/events?after=0.0", {
    headers: { authorization, accept: "text/event-stream" },
  });
  const reader = listed.body?.getReader();
  const first = await reader?.read();
  expect(new TextDecoder().decode(first?.value)).toContain("service-created");
  await reader?.cancel();
  await handle.close();
});
