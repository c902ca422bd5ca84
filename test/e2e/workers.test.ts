import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Miniflare } from "miniflare";
import postgres from "postgres";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { newEncryptionKey } from "../../src/lib/keyring.ts";
import type { Service } from "../../src/contracts/api/services.ts";
import { waitUntil } from "../support/wait-until.ts";
import { HttpHost, requestJson, smallService } from "../support/fleet/http-hosts.ts";
import { type MainProcess, startMain } from "../support/servers/main-process.ts";
import {
  createTestDatabase,
  createTestRedis,
  type TestDatabase,
  type TestRedis,
} from "../support/servers/test-services.ts";

/**
 * The API as Cloudflare runs it: wrangler bundles it with the project's wrangler.toml, and workerd
 * runs it. Postgres and Redis are real, and the job worker runs on Node.
 */

const root = fileURLToPath(new URL("../..", import.meta.url));
const adminToken = "brt_an-admin-of-the-edge-tests";

let database: TestDatabase;
let redis: TestRedis;
let folder: string;
let edge: Miniflare;
let edgeUrl: string;
let jobWorker: MainProcess;
let api: MainProcess;
let host: HttpHost;

beforeAll(async () => {
  [database, redis] = await Promise.all([createTestDatabase(), createTestRedis()]);
  const backends = {
    DATABASE_URL: database.url,
    REDIS_URL: redis.url,
    BERTH_REDIS_PREFIX: redis.prefix,
    BERTH_ENCRYPTION_KEYS: newEncryptionKey(),
  };
  folder = await mkdtemp(path.join(tmpdir(), "berth-edge-"));
  await bundle(folder);
  // An api process bootstraps the database, because the edge does not.
  api = await startMain("api", { ...backends, BERTH_PORT: "0", BERTH_ADMIN_TOKEN: adminToken });
  jobWorker = await startMain("job-worker", backends);
  const config = await readWranglerConfig();
  edge = new Miniflare({
    modules: [
      {
        type: "ESModule",
        path: "edge.js",
        contents: await readFile(path.join(folder, "edge.js"), "utf8"),
      },
    ],
    compatibilityDate: config.compatibilityDate,
    compatibilityFlags: config.compatibilityFlags,
    bindings: { ...backends, BERTH_LOG_LEVEL: "warn" },
  });
  edgeUrl = (await edge.ready).origin;
}, 120_000);

afterAll(async () => {
  await edge.dispose();
  await Promise.all([api.end("SIGTERM"), jobWorker.end("SIGTERM")]);
  await rm(folder, { recursive: true, force: true });
  await database.drop();
  await redis.release();
});

describe("on Cloudflare Workers", () => {
  it("responds, and describes errors in problem documents", async () => {
    expect((await fetch(`${edgeUrl}/readyz`)).status).toBe(200);
    const refused = await fetch(`${edgeUrl}/v1/services`);
    expect(refused.status).toBe(401);
    expect(refused.headers.get("content-type")).toContain("application/problem+json");
  });

  it("the job worker places a service on a host, created through the edge, and waits end", async () => {
    host = await HttpHost.enroll(String(api.ready["apiUrl"]), adminToken, "edge-host");
    const polling = host.sync(20_000);
    const startedAtMs = performance.now();
    const { service } = await asAdmin<{ service: Service }>(
      "POST",
      "/v1/services",
      smallService("menu", 3),
    );
    expect(service.desiredReplicas).toBe(3);
    const sets = await polling;
    expect(performance.now() - startedAtMs).toBeLessThan(18_000);
    expect(sets.map((set) => set.service)).toEqual(["menu", "menu", "menu"]);

    const waiting = asAdmin<{ reached: boolean }>(
      "GET",
      "/v1/services/menu/wait?for=settled&timeoutSeconds=20",
    );
    await host.sync();
    expect(await waiting).toMatchObject({ reached: true });
    // The job worker buffers its log.
    await waitUntil("a job has placed the sets", () =>
      jobWorker.logLines().some((line) => line["job"] === "place-sets" && line["placed"] === 3),
    );
  });

  it("encrypts a registry credential, which the API on Node delivers to the host", async () => {
    const polling = host.sync(20_000);
    const credential = { username: "puller", password: "correct-horse-battery" };
    const stored = await asAdmin("PUT", "/v1/registries/docker.io", credential);
    expect(JSON.stringify(stored)).not.toContain(credential.password);
    await polling;
    expect(host.registryCredentials).toEqual([
      { tenant: "default", registry: "docker.io", ...credential },
    ]);
  });

  it.each([
    ["POST", "/agent/v1/enroll"],
    ["POST", "/v1/plan"],
  ])("refuses %s %s, and says where to send it", async (method, path) => {
    const refused = await fetch(edgeUrl + path, {
      method,
      headers: { Authorization: `Bearer ${adminToken}`, "Content-Type": "application/json" },
      body: "{}",
    });
    expect(refused.status).toBe(501);
    expect(await refused.json()).toMatchObject({
      code: "wrong-endpoint",
      detail: expect.stringContaining("API on Node"),
    });
  });

  it("a wait ends at its timeout with the present state", async () => {
    const startedAtMs = performance.now();
    const answer = await asAdmin<{ reached: boolean }>(
      "GET",
      "/v1/services/menu/wait?for=deleted&timeoutSeconds=2",
    );
    expect(answer).toMatchObject({ reached: false });
    expect(performance.now() - startedAtMs).toBeGreaterThan(1_500);
  });

  it("streams events as they happen", async () => {
    const reading = new AbortController();
    const stream = await fetch(`${edgeUrl}/v1/events`, {
      headers: { Authorization: `Bearer ${adminToken}`, Accept: "text/event-stream" },
      signal: reading.signal,
    });
    expect(stream.headers.get("content-type")).toContain("text/event-stream");
    const seen = readUntil(stream, "is being deleted");
    await asAdmin("DELETE", "/v1/services/menu");
    await seen.finally(() => reading.abort());
  });

  it("closes every connection", async () => {
    const sql = postgres(database.url, { max: 1, onnotice: () => undefined });
    try {
      await asAdmin("POST", "/v1/services", smallService("waited-for", 0));
      // An open request shows that the count includes the edge's connections.
      const waiting = asAdmin("GET", "/v1/services/waited-for/wait?for=deleted&timeoutSeconds=2");
      await expect.poll(() => countEdgeConnections(sql)).toBeGreaterThan(0);
      await waiting;
      for (let count = 0; count < 20; count++) await asAdmin("GET", "/v1/sets");
      await expect.poll(() => countEdgeConnections(sql)).toBe(0);
    } finally {
      await sql.end();
    }
  });
});

function asAdmin<T>(method: string, pathname: string, body?: unknown): Promise<T> {
  return requestJson<T>(edgeUrl + pathname, method, adminToken, body);
}

/** Creates the bundle that `wrangler deploy` uploads. */
async function bundle(directory: string): Promise<void> {
  const wrangler = createRequire(import.meta.url).resolve("wrangler/bin/wrangler.js");
  await promisify(execFile)(
    process.execPath,
    [wrangler, "deploy", "--dry-run", "--outdir", directory],
    {
      cwd: root,
      env: { ...process.env, WRANGLER_SEND_METRICS: "false", CI: "true" },
      timeout: 300_000,
    },
  );
}

async function readWranglerConfig(): Promise<{
  compatibilityDate: string;
  compatibilityFlags: string[];
}> {
  const text = await readFile(path.join(root, "wrangler.toml"), "utf8");
  const date = /^compatibility_date = "([\d-]+)"$/m.exec(text)?.[1];
  const flags = /^compatibility_flags = (\[.*\])$/m.exec(text)?.[1];
  if (date === undefined || flags === undefined)
    throw new Error("wrangler.toml was not understood");
  return { compatibilityDate: date, compatibilityFlags: JSON.parse(flags) as string[] };
}

async function readUntil(response: Response, wanted: string): Promise<void> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of response.body ?? []) {
    text += decoder.decode(chunk as Uint8Array, { stream: true });
    if (text.includes(wanted)) return;
  }
  throw new Error(`the stream ended without "${wanted}": ${text}`);
}

/**
 * Counts the connections of the edge only. The pools of the api process and the job worker grow and
 * shrink.
 */
async function countEdgeConnections(sql: postgres.Sql): Promise<number> {
  const rows = await sql<{ count: number }[]>`
    select count(*)::int as count from pg_stat_activity
    where datname = current_database() and application_name = 'berth-edge'`;
  return rows[0]?.count ?? 0;
}
