import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, expect, it, vi } from "vitest";
import { type MainProcess, runMain, startMain } from "../../support/servers/main-process.ts";
import { requestJson } from "../../support/fleet/http-hosts.ts";
import {
  createTestDatabase,
  createTestRedis,
  type TestDatabase,
  type TestRedis,
} from "../../support/servers/test-services.ts";

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
    BERTH_AGENT_DATA_DIR: folder,
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
