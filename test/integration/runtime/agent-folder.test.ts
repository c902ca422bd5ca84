import { cp, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import postgres from "postgres";
import { afterAll, beforeAll, expect, it, vi } from "vitest";
import { type MainProcess, runMain, startMain } from "../../support/servers/main-process.ts";
import { requestJson } from "../../support/fleet/http-hosts.ts";
import {
  createTestDatabase,
  createTestRedis,
  type TestDatabase,
  type TestRedis,
} from "../../support/servers/test-services.ts";
import { waitUntil } from "../../support/wait-until.ts";

const adminToken = "brt_an-admin-of-the-agent-folder-tests";
let folder: string;
let database: TestDatabase;
let redis: TestRedis;
let api: MainProcess;
// A process compiles all of its sources at its start, which takes long on a busy machine.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "berth-agent-folder-"));
  [database, redis] = await Promise.all([createTestDatabase(), createTestRedis()]);
  api = await startMain("api", {
    DATABASE_URL: database.url,
    REDIS_URL: redis.url,
    BERTH_REDIS_PREFIX: redis.prefix,
    BERTH_PORT: "0",
    BERTH_ADMIN_TOKEN: adminToken,
  });
});
afterAll(async () => {
  await api.end("SIGKILL");
  await database.drop();
  await redis.release();
  await rm(folder, { recursive: true, force: true });
});

it("a second agent does not start on the data folder of the first one, until that one ends", async () => {
  const { secret } = await requestJson<{ secret: string }>(
    `${String(api.ready["apiUrl"])}/v1/tokens`,
    "POST",
    adminToken,
    { name: "enroll", role: "enroll" },
  );
  const env = {
    BERTH_API_URL: String(api.ready["apiUrl"]),
    BERTH_ENROLL_TOKEN: secret,
    BERTH_AGENT_DATA_DIR: path.join(folder, "only"),
    BERTH_AGENT_NAME: "only",
    BERTH_DOCKER_SOCKET: "/nonexistent/docker.sock",
    BERTH_VOLUME_BACKEND: "none",
  };
  const first = await startMain("host-agent", env);
  const second = await runMain("host-agent", env);
  expect(second.exitCode).toBe(1);
  expect(second.errorOutput).toContain("in use by another process");
  await first.end("SIGKILL");
  const third = await startMain("host-agent", env);
  expect(third.ready["hostId"]).toBe(first.ready["hostId"]);
  expect(await third.end("SIGTERM")).toBe(0);
});

it("an agent with a copied folder on a second machine is idle and is reported (A19)", async () => {
  const apiUrl = String(api.ready["apiUrl"]);
  const call = <T>(method: string, url: string, body?: unknown) =>
    requestJson<T>(apiUrl + url, method, adminToken, body);
  const { secret } = await call<{ secret: string }>("POST", "/v1/tokens", {
    name: "enroll-2",
    role: "enroll",
  });
  const machine = async (name: string, id: string) => {
    const machineIdFile = path.join(folder, `${name}.id`);
    await writeFile(machineIdFile, `${id.repeat(32)}\n`);
    return {
      BERTH_API_URL: apiUrl,
      BERTH_ENROLL_TOKEN: secret,
      BERTH_AGENT_DATA_DIR: path.join(folder, name),
      BERTH_AGENT_MACHINE_ID_FILE: machineIdFile,
      BERTH_AGENT_NAME: "twice",
      BERTH_DOCKER_SOCKET: "/nonexistent/docker.sock",
      BERTH_VOLUME_BACKEND: "none",
    };
  };
  const original = await startMain("host-agent", await machine("original", "a"));
  const hostId = String(original.ready["hostId"]);
  const events = async () =>
    (await call<{ items: { text: string }[] }>("GET", `/v1/events?kind=host-duplicated`)).items.map(
      ({ text }) => text,
    );
  await waitUntil("the original syncs", async () => (await findAgent(hostId)) !== null);
  await cp(path.join(folder, "original"), path.join(folder, "copy"), { recursive: true });

  const copy = await startMain("host-agent", await machine("copy", "b"));
  expect(copy.ready["hostId"]).toBe(hostId);
  await waitUntil("the copy is reported", async () => (await events()).length > 0);
  expect(await events()).toEqual([expect.stringContaining("A second machine uses the identity")]);
  const idle = await waitUntil("the copy is idle", () =>
    copy.logLines().find(({ msg }) => String(msg).startsWith("idle")),
  );
  expect(idle).toMatchObject({ admission: "another-machine" });
  expect(await call("GET", `/v1/hosts/${hostId}`)).toMatchObject({
    reason: { code: expect.stringMatching(/host-duplicated|docker-unreachable/) },
  });

  // The end of a process does not end the boot of its machine. The original is admitted again.
  expect(await original.end("SIGTERM")).toBe(0);
  const ended = await findAgent(hostId);
  expect(ended).toMatchObject({ hasEnded: false });
  const next = await startMain("host-agent", await machine("original", "a"));
  await waitUntil("the next agent syncs", async () => {
    return (await findAgent(hostId))?.["processId"] !== ended?.["processId"];
  });
  expect(await copy.end("SIGTERM")).toBe(0);
  expect(await next.end("SIGTERM")).toBe(0);
});

async function findAgent(hostId: string): Promise<Record<string, unknown> | null> {
  const sql = postgres(database.url, { max: 1, onnotice: () => undefined });
  try {
    const [row] = await sql`select agent from hosts where id = ${hostId}`;
    return (row?.["agent"] ?? null) as Record<string, unknown> | null;
  } finally {
    await sql.end();
  }
}
