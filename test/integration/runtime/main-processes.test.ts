import { chmod, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import postgres from "postgres";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { HttpHost, requestJson, smallService } from "../../support/fleet/http-hosts.ts";
import { type MainProcess, runMain, startMain } from "../../support/servers/main-process.ts";
import {
  createTestDatabase,
  createTestRedis,
  type TestDatabase,
  type TestRedis,
} from "../../support/servers/test-services.ts";
import { waitUntil } from "../../support/wait-until.ts";

const adminToken = "brt_an-admin-of-the-process-tests";
let folder: string;
// A process compiles all of its sources at its start, which takes long on a busy machine.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "berth-main-"));
});
afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

describe("an invalid environment", () => {
  it.each(["api", "job-worker", "all-in-one", "migrate"])(
    "stops %s with exit code 78, and lists every invalid variable without its value",
    async (program) => {
      const { exitCode, errorOutput } = await runMain(program, {
        DATABASE_URL: "mysql://hidden-value/db",
        BERTH_LOG_LEVEL: "hidden-value",
        BERTH_SHUTDOWN_TIMEOUT_MS: "-7",
        BERTH_SHUTDOWN_TIMEUOT_MS: "5000",
      });
      expect(exitCode).toBe(78);
      expect(errorOutput).toContain("DATABASE_URL");
      if (program !== "migrate") {
        expect(errorOutput).toContain("BERTH_LOG_LEVEL");
        expect(errorOutput).toContain("BERTH_SHUTDOWN_TIMEOUT_MS");
        expect(errorOutput).toContain("BERTH_SHUTDOWN_TIMEUOT_MS");
      }
      expect(errorOutput).not.toContain("hidden-value");
    },
  );
});

it.each(["host-agent", "stop-sets"])(
  "a file of a setting that is missing stops %s with exit code 1, so that systemd starts it again",
  async (program) => {
    const { exitCode, errorOutput } = await runMain(program, {
      BERTH_API_URL: "http://127.0.0.1:1",
      BERTH_DOCKER_SOCKET_FILE: path.join(folder, "missing"),
    });
    expect(exitCode).toBe(1);
    expect(errorOutput.trim()).toBe(
      "The environment cannot be read:\n✖ BERTH_DOCKER_SOCKET_FILE names an unreadable file (ENOENT)",
    );
  },
);

describe("api and job-worker", () => {
  let database: TestDatabase;
  let redis: TestRedis;
  let env: Record<string, string>;
  beforeAll(async () => {
    [database, redis] = await Promise.all([createTestDatabase(), createTestRedis()]);
    const secretFile = path.join(folder, "database-url");
    await writeFile(secretFile, `${database.url}\n`);
    await chmod(secretFile, 0o600);
    env = {
      DATABASE_URL_FILE: secretFile,
      REDIS_URL: redis.url,
      BERTH_REDIS_PREFIX: redis.prefix,
    };
  });
  afterAll(async () => {
    await database.drop();
    await redis.release();
  });

  it.each(["api", "job-worker"])(
    "%s refuses a database whose schema needs a newer release",
    async (program) => {
      const sql = postgres(database.url, { max: 1, onnotice: () => undefined });
      const [before] = await sql`select migrations_min as min from schema_compatibility`;
      await sql`update schema_compatibility set migrations_min = 1000000`;
      await sql`insert into drizzle.__drizzle_migrations (hash, created_at) values ('newer', 1)`;
      const portless = program === "api" ? { BERTH_PORT: "0" } : {};
      try {
        const { exitCode, errorOutput } = await runMain(program, { ...env, ...portless });
        expect(exitCode).toBe(1);
        expect(errorOutput).toContain("migrations");
      } finally {
        await sql`delete from drizzle.__drizzle_migrations where hash = 'newer'`;
        await sql`update schema_compatibility set migrations_min = ${before?.["min"]}`;
        await sql.end();
      }
    },
  );

  it("migrate is safe to run again", async () => {
    expect(await runMain("migrate", env)).toMatchObject({ exitCode: 0 });
  });

  it("api shows the first admin token once, not in the log, and it expires after a day", async () => {
    const first = await startMain("api", { ...env, BERTH_PORT: "0" });
    const shown =
      /admin token, shown once, valid for 24 hours: (brt_\S+)/.exec(first.errorOutput())?.[1] ?? "";
    expect(JSON.stringify(first.logLines())).not.toContain(shown.slice(4));
    const { items } = await requestJson<{ items: { name: string; expiresAt: string | null }[] }>(
      `${String(first.ready["apiUrl"])}/v1/tokens`,
      "GET",
      shown,
    );
    const [token] = items.filter(({ name }) => name === "bootstrap");
    const lifetimeMs = Date.parse(token?.expiresAt ?? "") - Date.now();
    expect(lifetimeMs).toBeGreaterThan(23 * 3_600_000);
    expect(lifetimeMs).toBeLessThanOrEqual(24 * 3_600_000);
    await first.end("SIGTERM");
    const second = await startMain("api", { ...env, BERTH_PORT: "0" });
    expect(second.errorOutput()).not.toContain("shown once");
    await second.end("SIGTERM");
  });

  it("a stopping api ends long polls and streams, and completes requests in flight", async () => {
    const api = await startMain("api", { ...env, BERTH_PORT: "0", BERTH_ADMIN_TOKEN: adminToken });
    const apiUrl = String(api.ready["apiUrl"]);
    const host = await HttpHost.enroll(apiUrl, adminToken, "stop-host");
    const polls = Array.from({ length: 20 }, () => host.sync(25_000));
    await requestJson(`${apiUrl}/v1/tenants`, "POST", adminToken, { name: "food" });
    const { secret } = await requestJson<{ secret: string }>(
      `${apiUrl}/v1/tokens`,
      "POST",
      adminToken,
      { name: "food", role: "tenant", tenant: "food" },
    );
    await requestJson(`${apiUrl}/v1/services`, "POST", secret, smallService("one", 0));
    const open = async (token: string, resource: string): Promise<string> => {
      const response = await fetch(`${apiUrl}/v1/${resource}`, {
        headers: { Authorization: `Bearer ${token}`, Accept: "text/event-stream" },
      });
      return response.text().catch(() => "broken off");
    };
    const reading = [open(adminToken, "events"), open(secret, "services/one/endpoints")];
    await waitUntil("the polls wait", async () => {
      const metrics = await fetch(`${apiUrl}/metrics`, {
        headers: { Authorization: `Bearer ${adminToken}` },
      });
      return /^berth_waits (2\d)$/m.test(await metrics.text());
    });
    const startedAtMs = performance.now();
    const ending = api.end("SIGTERM");
    for (const configured of await Promise.all(polls)) expect(configured).toEqual([]);
    const [events, endpoints] = await Promise.all(reading);
    expect(events).not.toBe("broken off");
    expect(endpoints).toContain("event: endpoints");
    expect(await ending).toBe(0);
    expect(performance.now() - startedAtMs).toBeLessThan(20_000); // the polls allow 25,000
    expect(api.logLines().at(-1)).toMatchObject({ msg: "stopped", isClean: true });
  });

  it("job-worker answers probes at the configured address", async () => {
    const jobWorker = await startMain("job-worker", { ...env, BERTH_HEALTH_PORT: "0" });
    const healthUrl = String(jobWorker.ready["healthUrl"]);
    expect((await fetch(`${healthUrl}/healthz`)).status).toBe(200);
    expect((await fetch(`${healthUrl}/readyz`)).status).toBe(200);
    expect((await fetch(`${healthUrl}/v1/services`)).status).toBe(404);
    expect(await jobWorker.end("SIGTERM")).toBe(0);
  });
});

describe("all-in-one", () => {
  let dataDir: string;
  let berth: MainProcess;
  const start = () =>
    startMain("all-in-one", {
      BERTH_DATA_DIR: dataDir,
      BERTH_PORT: "0",
      BERTH_AGENT_ENABLED: "false",
    });
  beforeAll(async () => {
    dataDir = path.join(folder, "data");
    berth = await start();
  });
  afterAll(async () => {
    await berth.end("SIGKILL");
  });

  const apiUrl = () => String(berth.ready["apiUrl"]);
  const secret = async () => (await readFile(String(berth.ready["adminTokenFile"]), "utf8")).trim();

  it("needs only a folder, which only its owner may read", async () => {
    expect(await requestJson(`${apiUrl()}/v1/tenants`, "GET", await secret())).toMatchObject({
      items: [{ name: "default" }],
    });
    expect((await stat(dataDir)).mode & 0o777).toBe(0o700);
    expect((await stat(String(berth.ready["adminTokenFile"]))).mode & 0o777).toBe(0o600);
    const announced = JSON.parse(await readFile(path.join(dataDir, "api.json"), "utf8")) as object;
    expect(announced).toEqual({
      apiUrl: apiUrl(),
      adminTokenFile: berth.ready["adminTokenFile"],
    });
  });

  it("refuses to start a second process on the same folder", async () => {
    const { exitCode, errorOutput } = await runMain("all-in-one", {
      BERTH_DATA_DIR: dataDir,
      BERTH_PORT: "0",
    });
    expect(exitCode).toBe(1);
    expect(errorOutput).toContain("in use by process");
  });

  it("places sets, even after its Redis was killed", async () => {
    const host = await HttpHost.enroll(apiUrl(), await secret(), "local");
    await requestJson(`${apiUrl()}/v1/services`, "POST", await secret(), smallService("one", 2));
    await waitUntil("sets of one", async () => (await host.sync(1_000)).length > 0);
    process.kill(await pidOfPrivateRedis(berth.pid), "SIGKILL");
    await requestJson(`${apiUrl()}/v1/services`, "POST", await secret(), smallService("two", 2));
    await waitUntil("sets of two", async () =>
      (await host.sync(1_000)).some((set) => set.service === "two"),
    );
    await expect.poll(() => pidOfPrivateRedis(berth.pid)).toBeGreaterThan(0);
  });

  it(
    "ends its Redis when it is killed, and has all data after a restart",
    { timeout: 300_000 },
    async () => {
      const redisPid = await pidOfPrivateRedis(berth.pid);
      const before = await secret();
      await berth.end("SIGKILL");
      await waitUntil("its redis is gone", async () => {
        return (await readFile(`/proc/${redisPid}/stat`, "utf8").catch(() => "")) === "";
      });
      berth = await start();
      expect(await secret()).toBe(before);
      const { items } = await requestJson<{ items: { name: string }[] }>(
        `${apiUrl()}/v1/services`,
        "GET",
        before,
      );
      expect(items.map(({ name }) => name).sort()).toEqual(["one", "two"]);
      expect(await berth.end("SIGTERM")).toBe(0);
      await expect(stat(path.join(dataDir, "api.json"))).rejects.toThrow(/ENOENT/);
    },
  );
});

async function pidOfPrivateRedis(parent: number): Promise<number> {
  const children = await readFile(`/proc/${parent}/task/${parent}/children`, "utf8");
  for (const pid of children.trim().split(" ").filter(Boolean)) {
    const name = await readFile(`/proc/${pid}/comm`, "utf8").catch(() => "");
    if (name.startsWith("redis-server")) return Number(pid);
  }
  throw new Error("no embedded redis-server runs");
}
