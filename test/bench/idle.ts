import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import postgres from "postgres";
import { startPostgres } from "../support/servers/postgres-server.ts";
import { startRedis } from "../support/servers/redis-server.ts";
import {
  buildMain,
  cpuSecondsOf,
  endChild,
  pidOf,
  readyLine,
  startMain,
} from "./main-processes.ts";
import { readOptions } from "./read-options.ts";

/**
 * Measures an installation in which nothing changes: commits and CPU time of each second. It runs
 * an all-in-one process without an agent, and then the given number of job workers besides it.
 */

const WARM_UP_SECONDS = 10;
const MEASURED_SECONDS = 30;
const STATEMENTS_MAX = 40;

export async function run(
  options: { args?: readonly string[] } = {},
): Promise<Record<string, unknown>> {
  const {
    "job-workers": jobWorkers,
    seconds,
    statements,
  } = readOptions(options.args, {
    "job-workers": 0,
    seconds: MEASURED_SECONDS,
    statements: false,
  });
  await buildMain();
  const preload = statements ? { shared_preload_libraries: "pg_stat_statements" } : {};
  const database = await startPostgres(preload);
  const redis = await startRedis();
  const folder = await mkdtemp(path.join(tmpdir(), "berth-idle-"));
  const sql = postgres(database.url, { max: 1, onnotice: () => undefined });
  const env = {
    DATABASE_URL: database.url,
    REDIS_URL: redis.url,
    BERTH_LOG_LEVEL: "warn",
    BERTH_READY_JSON: "true",
  };
  const local = { BERTH_DATA_DIR: folder, BERTH_PORT: "0", BERTH_AGENT_ENABLED: "false" };
  const children = [startMain("all-in-one", { ...env, ...local })];
  try {
    await Promise.all(children.map((child) => readyLine(child)));
    for (let number = 0; number < jobWorkers; number += 1)
      children.push(startMain("job-worker", env));
    await Promise.all(children.slice(1).map((child) => readyLine(child)));
    await delay(WARM_UP_SECONDS * 1_000);
    if (statements) await sql`create extension pg_stat_statements`;
    const pids = children.map(pidOf);
    const before = await readCounters(sql, pids, pidOf(database.process));
    await delay(seconds * 1_000);
    const after = await readCounters(sql, pids, pidOf(database.process));
    if (statements) await printStatements(sql, seconds);
    const perSecond = (name: keyof Counters): number =>
      (after[name] - before[name]) / ((after.atMs - before.atMs) / 1_000);
    const result = {
      commitsPerSecond: Math.round(perSecond("commits") * 10) / 10,
      berthCpuMsPerSecond: Math.round(perSecond("berthCpuSeconds") * 1_000),
      postgresCpuMsPerSecond: Math.round(perSecond("postgresCpuSeconds") * 1_000),
    };
    process.stdout.write(`${children.length} processes, idle: ${JSON.stringify(result)}\n`);
    return { processes: children.length, ...result };
  } finally {
    await Promise.all(children.map(endChild));
    await sql.end({ timeout: 5 });
    await Promise.all([database.stop(), redis.stop()]);
    await rm(folder, { recursive: true, force: true });
  }
}

interface Counters {
  atMs: number;
  commits: number;
  berthCpuSeconds: number;
  postgresCpuSeconds: number;
}

/** Reads the counters. Postgres publishes those of a connection at most 1 s after its commit. */
async function readCounters(
  sql: postgres.Sql,
  berthPids: readonly number[],
  postgresPid: number,
): Promise<Counters> {
  const [row] = await sql<{ commits: number }[]>`
    select xact_commit::int as commits from pg_stat_database where datname = current_database()`;
  return {
    atMs: performance.now(),
    commits: row?.commits ?? 0,
    berthCpuSeconds: cpuSecondsOf(berthPids, { withChildren: false }),
    postgresCpuSeconds: cpuSecondsOf([postgresPid], { withChildren: true }),
  };
}

async function printStatements(sql: postgres.Sql, seconds: number): Promise<void> {
  const rows = await sql<{ calls: number; query: string }[]>`
    select calls::int as calls, query from pg_stat_statements order by calls desc
    limit ${STATEMENTS_MAX}`;
  for (const { calls, query } of rows) {
    const text = query.replaceAll(/\s+/g, " ").slice(0, 140);
    process.stdout.write(`  ${(calls / seconds).toFixed(2).padStart(6)} per s  ${text}\n`);
  }
}
