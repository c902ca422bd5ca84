import { setTimeout as pause } from "node:timers/promises";
import { inspect } from "node:util";
import { sql } from "drizzle-orm";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import type { RegistryCredential } from "../../../src/contracts/agent-protocol/registry-credential.ts";
import type { SyncResult } from "../../../src/contracts/agent-protocol/sync.ts";
import { REGISTRIES_PER_TENANT_MAX, type Registry } from "../../../src/contracts/api/registries.ts";
import { createPlacer } from "../../../src/control/placement/place-pending-sets.ts";
import { reencryptCredentials } from "../../../src/control/tenancy/reencrypt-credentials.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { Keyring, newEncryptionKey } from "../../../src/lib/keyring.ts";
import type { Log } from "../../../src/lib/log.ts";
import { Secret } from "../../../src/lib/secret.ts";
import {
  createTestApi,
  emptySync,
  enrollTestHost,
  serviceBody,
  type TestApi,
} from "../../support/api/test-api.ts";

const password = "correct-horse-battery";
const changedPassword = "correct-horse-staple";
const newKey = () => new Secret(newEncryptionKey());
const key = newKey();
const logged: string[] = [];
const write = (fields: object, message: string) => {
  logged.push(`${message} ${inspect(fields, { depth: 9 })}`);
};
const log: Log = { debug: write, info: write, warn: write, error: write, child: () => log };

let test: TestApi;
let food: string;
let toys: string;
let host: { hostId: string; credential: string };
/** Every text that a user received. */
const answered: string[] = [];

beforeAll(async () => {
  test = await createTestApi({ keyring: new Keyring([key]), log });
  food = await test.tokenOf("tenant", "food");
  toys = await test.tokenOf("tenant", "toys");
  host = await enrollTestHost(test, "host-1");
  await sync({ usage });
});
afterAll(() => test.close());
beforeEach(async () => {
  test.ctx.keyring = new Keyring([key]);
  await test.ctx.db.execute(sql`delete from registry_credentials`);
});

const usage = {
  used: { cpuMillis: 0, memoryBytes: 0, volumeBytes: 0, rootfsBytes: 0 },
  allocatable: { cpuMillis: 8_000, memoryBytes: 2 ** 33, volumeBytes: 0, rootfsBytes: 2 ** 36 },
};
const send = async (method: string, path: string, body?: unknown, token = food) => {
  const response = await test.request(method, path, {
    token,
    ...(body === undefined ? {} : { body }),
  });
  const text = await response.text();
  answered.push(text);
  return { status: response.status, body: (text === "" ? null : JSON.parse(text)) as unknown };
};
const put = (registry: string, secret = password, token = food) =>
  send(
    "PUT",
    `/v1/registries/${encodeURIComponent(registry)}`,
    { username: "puller", password: secret },
    token,
  );
const list = async (token = food) =>
  ((await send("GET", "/v1/registries", undefined, token)).body as { items: Registry[] }).items;
const countEvents = async () => {
  const { body } = await send("GET", "/v1/events?kind=registry-stored");
  return (body as { items: unknown[] }).items.length;
};

async function sync(parts: Record<string, unknown> = {}): Promise<SyncResult> {
  const response = await test.request("POST", "/agent/v1/sync", {
    token: host.credential,
    body: { ...emptySync, ...parts },
  });
  expect(response.status).toBe(200);
  return (await response.json()) as SyncResult;
}

async function runService(name: string, image: string, token = food): Promise<void> {
  const { template } = serviceBody(name);
  const [container] = template.containers;
  const body = serviceBody(name, {
    replicas: 1,
    template: { ...template, containers: [{ ...container, image }] },
  });
  expect((await send("POST", "/v1/services", body, token)).status).toBe(201);
  await createPlacer(test.ctx).placeSets();
}

it("stores, lists and deletes credentials, and never returns a password", async () => {
  expect(await put("Registry.Example.com:5000")).toMatchObject({
    status: 200,
    body: { tenant: "food", registry: "registry.example.com:5000", username: "puller" },
  });
  expect((await put("index.docker.io")).body).toMatchObject({ registry: "docker.io" });
  expect((await list()).map(({ registry }) => registry)).toEqual([
    "registry.example.com:5000",
    "docker.io",
  ]);
  expect(await send("DELETE", "/v1/registries/registry-1.docker.io")).toEqual({
    status: 204,
    body: null,
  });
  expect(await send("DELETE", "/v1/registries/docker.io")).toMatchObject({
    status: 404,
    body: { detail: "Registry not found." },
  });
  expect(await list()).toHaveLength(1);
});

it("takes equal credentials once", async () => {
  const first = await put("ghcr.io");
  const events = await countEvents();
  await pause(2);
  expect(await put("ghcr.io")).toEqual(first);
  expect(await countEvents()).toBe(events);
  const changed = (await put("ghcr.io", changedPassword)).body as Registry;
  expect(changed.id).toBe((first.body as Registry).id);
  expect(changed.updatedAt > (first.body as Registry).updatedAt).toBe(true);
  expect(await countEvents()).toBe(events + 1);
});

it("stores concurrent credentials of one registry in one row", async () => {
  const answers = await Promise.all([1, 2, 3, 4].map((n) => put("ghcr.io", `password-${n}`)));
  expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200]);
  expect(await list()).toHaveLength(1);
});

const login = { username: "puller", password };

it.each([
  ["a host without a dot", "registry", login],
  ["a port that is no number", "ghcr.io:port", login],
  ["a colon in the user name", "ghcr.io", { ...login, username: "a:b" }],
  ["an empty user name", "ghcr.io", { ...login, username: "" }],
  ["an empty password", "ghcr.io", { ...login, password: "" }],
  ["a long password", "ghcr.io", { ...login, password: `${password}${"x".repeat(20_000)}` }],
  ["an unknown member", "ghcr.io", { ...login, email: "a@b.example" }],
])("refuses %s", async (_fault, registry, body) => {
  expect(await send("PUT", `/v1/registries/${registry}`, body)).toMatchObject({
    status: 422,
    body: { code: "invalid-request" },
  });
});

it("bounds the registries of a tenant, and still changes those that it has", async () => {
  for (let index = 0; index < REGISTRIES_PER_TENANT_MAX; index++)
    expect((await put(`r${index}.example.com`)).status).toBe(200);
  expect(await put("one-more.example.com")).toMatchObject({
    status: 409,
    body: { code: "state-conflict" },
  });
  expect((await put("r0.example.com", changedPassword)).status).toBe(200);
  expect((await put("ghcr.io", password, toys)).status).toBe(200);
});

it("isolates tenants: foreign credentials are neither listed nor deleted (I9)", async () => {
  await put("ghcr.io");
  expect(await list(toys)).toEqual([]);
  const [foreign, missing] = await Promise.all(
    ["ghcr.io", "gone.example.com"].map((registry) =>
      send("DELETE", `/v1/registries/${registry}`, undefined, toys),
    ),
  );
  expect(foreign?.status).toBe(404);
  const withoutTarget = ({ body }: { body: unknown }) => ({
    ...(body as object),
    instance: "",
    requestId: "",
  });
  expect(withoutTarget(foreign ?? { body: {} })).toEqual(withoutTarget(missing ?? { body: {} }));
  expect(await list()).toHaveLength(1);
  expect((await list(test.adminToken)).map(({ tenant }) => tenant)).toEqual(["food"]);
});

it("has no password in the database", async () => {
  await put("ghcr.io");
  const [dumped] = await queryRows<{ text: string }>(
    test.ctx.db,
    sql`select query_to_xml('select * from registry_credentials', true, false, '')::text
          || query_to_xml('select * from events', true, false, '')::text
          || query_to_xml('select * from outbox', true, false, '')::text
          || query_to_xml('select * from idempotency_keys', true, false, '')::text as text`,
  );
  expect(dumped?.text).toContain("ghcr.io");
  expect(dumped?.text).not.toContain(password);
  expect(dumped?.text).not.toContain(Buffer.from(password).toString("base64"));
});

it("stores nothing without a key, and everything else works", async () => {
  await put("ghcr.io");
  test.ctx.keyring = undefined;
  expect(await put("quay.io")).toMatchObject({
    status: 501,
    body: { code: "encryption-key-missing", detail: expect.stringContaining("operator") },
  });
  expect(await list()).toHaveLength(1);
  expect(await sync()).not.toHaveProperty("registryCredentials");
  expect((await send("DELETE", "/v1/registries/ghcr.io")).status).toBe(204);
});

it("delivers to a host only the credentials for the images of its sets", async () => {
  for (const registry of ["ghcr.io", "hcr.io", "quay.io", "docker.io"]) await put(registry);
  await put("ghcr.io", "another-secret", toys);
  expect((await sync()).registryCredentials).toEqual([]);
  await runService("private-web", "GHCR.io/team/menu:42");
  const credential: RegistryCredential = {
    tenant: "food",
    registry: "ghcr.io",
    username: "puller",
    password,
  };
  const { hostGeneration, sets, registryCredentials } = await sync();
  expect(registryCredentials).toEqual([credential]);
  expect(JSON.stringify(sets)).not.toContain(password);
  const other = await enrollTestHost(test, "host-2");
  const response = await test.request("POST", "/agent/v1/sync", {
    token: other.credential,
    body: emptySync,
  });
  expect(await response.json()).toMatchObject({ registryCredentials: [] });
  // A report has no news, and costs no read of credentials.
  const report = await sync({ full: false, acceptedGeneration: hostGeneration });
  expect(report).not.toHaveProperty("registryCredentials");
  await put("ghcr.io:444");
  await runService("public-web", "team/menu:42");
  expect((await sync()).registryCredentials?.map(({ registry }) => registry).toSorted()).toEqual([
    "docker.io",
    "ghcr.io",
  ]);
});

it("a change wakes the host, and increases no generation", async () => {
  await put("ghcr.io");
  const { hostGeneration } = await sync();
  const wait = async (change: () => Promise<unknown>) => {
    const woken = sync({ full: false, waitMs: 20_000, acceptedGeneration: hostGeneration });
    await pause(200);
    await change();
    return woken;
  };
  const startedMs = performance.now();
  const changed = await wait(() => put("ghcr.io", changedPassword));
  expect(changed).toMatchObject({ hostGeneration, full: false, sets: [] });
  expect(changed.registryCredentials).toMatchObject([{ password: changedPassword }]);
  const deleted = await wait(() => send("DELETE", "/v1/registries/ghcr.io"));
  expect(deleted).toMatchObject({ hostGeneration, sets: [], registryCredentials: [] });
  expect(performance.now() - startedMs).toBeLessThan(10_000);
});

it("encrypts again with the first key, and says that a key is missing", async () => {
  await put("ghcr.io");
  const second = newKey();
  const keyIds = async () => {
    const rows = await queryRows<{ keyId: string }>(
      test.ctx.db,
      sql`select key_id as "keyId" from registry_credentials`,
    );
    return rows.map(({ keyId }) => keyId);
  };
  const sent = async () => (await sync()).registryCredentials?.map((sent) => sent.password);
  const before = await list();
  test.ctx.keyring = new Keyring([second, key]);
  expect(await sent()).toEqual([password]);
  await reencryptCredentials(test.ctx);
  expect(await keyIds()).toEqual([test.ctx.keyring.keyId]);
  expect(await list()).toEqual(before);
  test.ctx.keyring = new Keyring([second]);
  expect(await sent()).toEqual([password]);
  test.ctx.keyring = new Keyring([newKey()]);
  await reencryptCredentials(test.ctx);
  expect(await sent()).toEqual([null]);
  expect(logged.join("\n")).toContain("BERTH_ENCRYPTION_KEYS lacks their key");
  await put("ghcr.io", changedPassword);
  expect(await sent()).toEqual([changedPassword]);
});

it("no log line, event or answer of any of these tests contains a password or a key", async () => {
  await send("GET", "/v1/events?limit=500", undefined, test.adminToken);
  await send("GET", "/v1/services/private-web");
  await send("GET", "/v1/sets");
  expect(logged.length).toBeGreaterThan(50);
  const texts = [...logged, ...answered].join("\n");
  expect(texts).toContain("registry-stored");
  for (const secret of [password, changedPassword, "another-secret", key.reveal()])
    expect(texts).not.toContain(secret);
});
