import { randomBytes } from "node:crypto";
import { Redis } from "ioredis";
import postgres from "postgres";
import { inject } from "vitest";
import { startPostgres } from "./postgres-server.ts";
import { startRedis } from "./redis-server.ts";
import { waitUntil } from "../wait-until.ts";

/** The global setup provides this to every test file. It is plain data: it crosses processes. */
export interface ServiceUrls {
  /** May create and drop databases. */
  adminDatabaseUrl: string;
  /** A migrated database without connections. Test databases are copies of it. */
  templateDatabase: string;
  redisUrl: string;
}

export interface RunningServices {
  urls: ServiceUrls;
  /** Ends the servers that it started, and drops the databases that it created on other servers. */
  stop(): Promise<void>;
}

export interface TestDatabase {
  url: string;
  /** Drops the database, and fails if a connection was still open. Call it in afterAll. */
  drop(): Promise<void>;
}

export interface TestRedis {
  /** With a database number of its own, so that a test may flush or list it. */
  url: string;
  /** For BullMQ's queues and for channels: pub/sub does not know database numbers. */
  prefix: string;
  /** Fails when a client is still connected; empties the database. Call it in afterAll. */
  release(): Promise<void>;
}

declare module "vitest" {
  interface ProvidedContext {
    services: ServiceUrls;
  }
}

/** The time that a closed client may stay in the server's list. */
const leakDeadlineMs = 3_000;

/**
 * Starts Postgres and Redis for one run of vitest, or uses TEST_DATABASE_URL and TEST_REDIS_URL. A
 * private server ends with this process. Tests create databases in Postgres and empty the numbered
 * databases of Redis.
 */
export async function startServices(
  env: Record<string, string | undefined>,
): Promise<RunningServices> {
  const givenDatabaseUrl = env["TEST_DATABASE_URL"];
  const givenRedisUrl = env["TEST_REDIS_URL"];
  const [ownPostgres, ownRedis] = await Promise.all([
    givenDatabaseUrl === undefined ? startPostgres() : undefined,
    givenRedisUrl === undefined ? startRedis() : undefined,
  ]);
  const adminDatabaseUrl = givenDatabaseUrl ?? ownPostgres?.url ?? "";
  const templateDatabase = uniqueName("template");
  const stop = async () => {
    if (ownPostgres === undefined) await dropDatabase(adminDatabaseUrl, templateDatabase);
    await Promise.all([ownPostgres?.stop(), ownRedis?.stop()]);
  };
  try {
    await withAdmin(adminDatabaseUrl, (sql) => sql`create database ${sql(templateDatabase)}`);
    const { migrate } = await import("../../../src/db/migrate.ts");
    await migrate(databaseUrl(adminDatabaseUrl, templateDatabase));
  } catch (error) {
    await stop();
    throw error;
  }
  const redisUrl = givenRedisUrl ?? ownRedis?.url ?? "";
  return { urls: { adminDatabaseUrl, templateDatabase, redisUrl }, stop };
}

/** A migrated, empty database for one test file, cloned from the template. */
export function createTestDatabase(): Promise<TestDatabase> {
  return createDatabase(inject("services").templateDatabase);
}

/** Creates a database without a schema, for tests of migrations. */
export function createEmptyDatabase(): Promise<TestDatabase> {
  return createDatabase("template0");
}

async function createDatabase(template: string): Promise<TestDatabase> {
  const { adminDatabaseUrl } = inject("services");
  const name = uniqueName("db");
  await withAdmin(
    adminDatabaseUrl,
    (sql) => sql`create database ${sql(name)} template ${sql(template)}`,
  );
  return {
    url: databaseUrl(adminDatabaseUrl, name),
    drop: async () => {
      try {
        await expectNoConnections(adminDatabaseUrl, name);
      } finally {
        await dropDatabase(adminDatabaseUrl, name);
      }
    },
  };
}

/** An empty Redis database and a prefix for one test file. */
export async function createTestRedis(): Promise<TestRedis> {
  const { redisUrl } = inject("services");
  const number = await withRedis(redisUrl, async (redis) => {
    const databases = Number((await redis.config("GET", "databases"))[1]);
    const counter = await redis.incr("berth-test:databases");
    return (counter % (databases - 1)) + 1; // 0 holds the counter
  });
  const url = new URL(redisUrl);
  url.pathname = `/${number}`;
  await withRedis(url.href, (redis) => redis.flushdb());
  return {
    url: url.href,
    prefix: uniqueName("queues"),
    release: async () => {
      try {
        await expectNoClients(redisUrl, number);
      } finally {
        await withRedis(url.href, (redis) => redis.flushdb());
      }
    },
  };
}

async function expectNoConnections(adminUrl: string, name: string): Promise<void> {
  await withAdmin(adminUrl, async (sql) => {
    let open: string[] = [];
    const isQuiet = async () => {
      const rows = await sql<{ what: string }[]>`
        select application_name || ' (' || coalesce(state, '?') || '): ' || left(query, 80) as what
        from pg_stat_activity where datname = ${name} and backend_type = 'client backend'`;
      open = rows.map((row) => row.what);
      return open.length === 0;
    };
    await waitUntil("all connections are closed", isQuiet, { deadlineMs: leakDeadlineMs }).catch(
      () => {
        throw new Error(`the test left connections to Postgres open:\n${open.join("\n")}`);
      },
    );
  });
}

async function expectNoClients(redisUrl: string, number: number): Promise<void> {
  await withRedis(redisUrl, async (redis) => {
    let open: string[] = [];
    const isQuiet = async () => {
      const clients = String(await redis.client("LIST")).split("\n");
      open = clients.filter((line) => line.includes(` db=${number} `));
      return open.length === 0;
    };
    await waitUntil("all clients are closed", isQuiet, { deadlineMs: leakDeadlineMs }).catch(() => {
      throw new Error(`the test left clients of Redis connected:\n${open.join("\n")}`);
    });
  });
}

async function dropDatabase(adminUrl: string, name: string): Promise<void> {
  await withAdmin(adminUrl, (sql) => sql`drop database if exists ${sql(name)} with (force)`);
}

async function withAdmin<T>(url: string, use: (sql: postgres.Sql) => Promise<T>): Promise<T> {
  const sql = postgres(url, { max: 1, connect_timeout: 10, onnotice: () => undefined });
  try {
    return await use(sql);
  } finally {
    await sql.end({ timeout: 5 });
  }
}

async function withRedis<T>(url: string, use: (redis: Redis) => Promise<T>): Promise<T> {
  const redis = new Redis(url, { lazyConnect: true, maxRetriesPerRequest: 1 });
  redis.on("error", () => undefined); // the failed command throws the error
  try {
    await redis.connect();
    return await use(redis);
  } finally {
    redis.disconnect();
  }
}

function uniqueName(what: string): string {
  return `berth_test_${what}_${randomBytes(6).toString("hex")}`;
}

function databaseUrl(adminUrl: string, name: string): string {
  const url = new URL(adminUrl);
  url.pathname = `/${name}`;
  return url.href;
}
