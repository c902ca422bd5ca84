import { setTimeout as delay } from "node:timers/promises";
import { Redis } from "ioredis";
import postgres from "postgres";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { HttpHost, requestJson, smallService } from "../../support/fleet/http-hosts.ts";
import { type MainProcess, startMain } from "../../support/servers/main-process.ts";
import { takeCensus } from "../../support/fleet/placements.ts";
import { type RedisServer, startRedis } from "../../support/servers/redis-server.ts";
import { createTestDatabase, type TestDatabase } from "../../support/servers/test-services.ts";
import { waitUntil } from "../../support/wait-until.ts";

/**
 * I1: Redis is only a trigger. The test starts an api process and two job workers like an operator.
 * It flushes, kills, freezes and restarts their Redis while services are created and scaled.
 */

const adminToken = "brt_an-admin-of-the-redis-tests";

let database: TestDatabase;
let redis: RedisServer;
let api: MainProcess;
let jobWorkers: MainProcess[];
let apiUrl: string;
let host: HttpHost;
let sql: postgres.Sql;
let serviceNumber = 0;

beforeAll(async () => {
  [database, redis] = await Promise.all([createTestDatabase(), startRedis()]);
  const env = { DATABASE_URL: database.url, REDIS_URL: redis.url, BERTH_LOG_LEVEL: "info" };
  api = await startMain("api", { ...env, BERTH_PORT: "0", BERTH_ADMIN_TOKEN: adminToken });
  apiUrl = String(api.ready["apiUrl"]);
  jobWorkers = await Promise.all([startMain("job-worker", env), startMain("job-worker", env)]);
  host = await HttpHost.enroll(apiUrl, adminToken, "redis-host", 500);
  sql = postgres(database.url, { max: 2, onnotice: () => undefined });
}, 120_000);

afterAll(async () => {
  await sql.end();
  await Promise.all([api, ...jobWorkers].map((process) => process.end("SIGTERM")));
  await redis.stop();
  await database.drop();
});

beforeEach(async () => {
  await sql`update services set desired_replicas = 0, replicas = 0, deleting = true`;
  await sql`insert into outbox (name, job_id, payload)
    select 'reconcile-service', 'reconcile:' || id, jsonb_build_object('serviceId', id, 'generation', generation)
    from services where deleted_at is null`;
  await waitUntil("everything is gone", async () => {
    await host.sync();
    return Object.keys((await takeCensus(sql)).states).length === 0;
  });
});

/** Creates a service and scales it out. Returns the duration of each call. */
async function createAndScale(): Promise<{ name: string; slowestMs: number }> {
  const name = `web-${serviceNumber++}`;
  let slowestMs = 0;
  const timed = async (method: string, path: string, body: unknown): Promise<void> => {
    const startedAtMs = performance.now();
    await requestJson(apiUrl + path, method, adminToken, body);
    slowestMs = Math.max(slowestMs, performance.now() - startedAtMs);
  };
  await timed("POST", "/v1/services", smallService(name, 2));
  await timed("POST", `/v1/services/${name}/scale`, { replicas: 5 });
  return { name, slowestMs };
}

/** A call that waits for Redis would last until Redis recovers: minutes. */
const REDIS_WAIT_MS = 10_000;

async function untilPlaced(sets: number): Promise<void> {
  const isPlaced = async (): Promise<boolean> => {
    const { states } = await takeCensus(sql);
    return states["placed"] === sets && Object.keys(states).length === 1;
  };
  await waitUntil(`${sets} sets are placed`, isPlaced);
  expect(await takeCensus(sql)).toMatchObject({
    states: { placed: sets },
    placedTwice: 0,
    wronglyBooked: 0,
  });
}

describe("the work of every intent runs once", () => {
  it("the work runs once if Redis is flushed repeatedly", { timeout: 300_000 }, async () => {
    const flusher = new Redis(redis.url);
    let flushes = 0;
    const stopping = new AbortController();
    const flushing = (async () => {
      while (!stopping.signal.aborted) {
        await flusher.flushall();
        flushes++;
        await delay(Math.random() * 8);
      }
    })();
    try {
      for (let round = 0; round < 5; round++)
        await Promise.all(Array.from({ length: 4 }, createAndScale));
      await untilPlaced(100);
    } finally {
      stopping.abort();
      await flushing;
      flusher.disconnect();
    }
    expect(flushes).toBeGreaterThan(50);
    await waitUntil("the outbox is empty", async () => (await takeCensus(sql)).outbox === 0);
  });

  it(
    "the work runs once if Redis is killed meanwhile and stays down",
    { timeout: 300_000 },
    async () => {
      const before = createAndScale();
      await redis.process.kill("SIGKILL");
      const calls = [await before];
      for (let count = 0; count < 3; count++) calls.push(await createAndScale());
      // No request waits for an unreachable Redis.
      expect(Math.max(...calls.map(({ slowestMs }) => slowestMs))).toBeLessThan(REDIS_WAIT_MS);
      await untilPlaced(20);
      await waitUntil("the outbox is empty", async () => (await takeCensus(sql)).outbox === 0);

      // After its restart without data, jobs use Redis again.
      redis = await startRedis({ port: redis.port });
      await waitUntil("a job is received", async () => {
        const attempts = countAttempts();
        await createAndScale();
        await delay(300);
        return countAttempts() > attempts;
      });
    },
  );

  it("the work runs once if Redis hangs and answers late", { timeout: 300_000 }, async () => {
    process.kill(redis.process.pid, "SIGSTOP");
    try {
      const calls = [await createAndScale(), await createAndScale()];
      expect(Math.max(...calls.map(({ slowestMs }) => slowestMs))).toBeLessThan(REDIS_WAIT_MS);
      await untilPlaced(10);
    } finally {
      process.kill(redis.process.pid, "SIGCONT");
    }
    await createAndScale();
    await untilPlaced(15);
  });

  it(
    "a host's long poll returns its desired sets without a signal",
    { timeout: 300_000 },
    async () => {
      await redis.process.kill("SIGKILL");
      try {
        const polling = (async () => {
          const startedAtMs = performance.now();
          const received = [];
          while (received.length < 5 && performance.now() - startedAtMs < 30_000)
            received.push(...(await host.sync(25_000)));
          return { sets: received.length, ms: performance.now() - startedAtMs };
        })();
        await createAndScale();
        const { sets, ms } = await polling;
        expect(sets).toBeGreaterThanOrEqual(5);
        expect(ms).toBeLessThan(24_000); // the poll itself allows 25,000
      } finally {
        redis = await startRedis({ port: redis.port });
      }
    },
  );
});

function countAttempts(): number {
  const lines = jobWorkers.flatMap((jobWorker) => jobWorker.logLines());
  return lines.filter((line) => line["msg"] === "job").length;
}
