import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { Redis } from "ioredis";
import postgres from "postgres";
import { expect, it } from "vitest";
import { z } from "zod";
import { createTestDatabase, createTestRedis } from "../../support/servers/test-services.ts";
import { waitUntil } from "../../support/wait-until.ts";

it("a test database is migrated, and belongs to one test file", async () => {
  const [one, other] = await Promise.all([createTestDatabase(), createTestDatabase()]);
  const sql = postgres(one.url, { max: 1 });
  const tables = await sql`select 1 from pg_tables where tablename = 'services'`;
  await sql.end();
  expect(tables).toHaveLength(1);
  expect(one.url).not.toBe(other.url);
  await Promise.all([one.drop(), other.drop()]);
  const missing = postgres(one.url, { max: 1 });
  await expect(missing`select 1`).rejects.toThrow(/does not exist/);
  await missing.end();
});

it("a connection that a test left open fails the test file", async () => {
  const database = await createTestDatabase();
  const leaked = postgres(database.url, { max: 1, connection: { application_name: "leaked" } });
  await leaked`select 1`;
  await expect(database.drop()).rejects.toThrow(/leaked/);
  await leaked.end();
});

it("a Redis client that a test left connected fails the test file", async () => {
  const redis = await createTestRedis();
  const leaked = new Redis(redis.url);
  await leaked.set("key", "value");
  await expect(redis.release()).rejects.toThrow(/left clients of Redis/);
  await leaked.quit();
});

it("flushing one test's Redis leaves another's keys", async () => {
  const [one, other] = await Promise.all([createTestRedis(), createTestRedis()]);
  const [first, second] = [new Redis(one.url), new Redis(other.url)];
  await Promise.all([first.set("key", "one"), second.set("key", "other")]);
  await first.flushdb();
  expect(await second.get("key")).toBe("other");
  await Promise.all([first.quit(), second.quit()]);
  await Promise.all([one.release(), other.release()]);
});

it("servers of a run that was killed do not survive it", { timeout: 300_000 }, async () => {
  const support = new URL("../../support/servers/", import.meta.url).pathname;
  const program = `
    const { startPostgres } = await import("${support}postgres-server.ts");
    const { startRedis } = await import("${support}redis-server.ts");
    const servers = await Promise.all([startPostgres(), startRedis()]);
    console.log(JSON.stringify(servers.map((server) => server.process.pid)));
    setInterval(() => undefined, 1_000);`;
  const run = spawn(process.execPath, ["--import", "tsx", "--input-type=module", "-e", program], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [line] = await once(run.stdout, "data");
  const pids = z
    .array(z.number().int().positive())
    .length(2)
    .parse(JSON.parse(String(line)));
  expect(pids.map(isRunning)).toEqual([true, true]);
  run.kill("SIGKILL");
  await waitUntil("both servers are missing", () => !pids.some(isRunning));
});

function isRunning(pid: number): boolean {
  return existsSync(`/proc/${pid}`);
}
