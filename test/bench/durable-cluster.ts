import type { ChildProcess } from "node:child_process";
import { readdirSync } from "node:fs";
import { Agent } from "undici";
import postgres from "postgres";
import { migrate } from "../../src/db/migrate.ts";
import { startPostgres } from "../support/servers/postgres-server.ts";
import { startRedis } from "../support/servers/redis-server.ts";
import {
  ADMIN_TOKEN,
  buildMain,
  CLOCK_TICKS_PER_SECOND,
  endChild,
  memoryOf,
  pidOf,
  readyLine,
  requestAsAdmin,
  startMain,
  statOf,
} from "./main-processes.ts";

/** What differs from Postgres 15's defaults. Durability does not: fsync, full_page_writes and synchronous_commit are on. */
export const postgresSettings = {
  fsync: "on",
  full_page_writes: "on",
  synchronous_commit: "on",
  autovacuum: "on",
  shared_buffers: "1GB",
  max_wal_size: "4GB",
  /** Makes the moment of every commit readable, exactly: pg_xact_commit_timestamp. */
  track_commit_timestamp: "on",
};

/** Planning included, which is a good part of statements as short as these. */
const accountOfStatements = {
  shared_preload_libraries: "pg_stat_statements",
  "pg_stat_statements.track_planning": "on",
};
const ENROL_DEADLINE_MS = 600_000;

export type ProcessRole = "api" | "jobWorker" | "postgres" | "redis" | "simulatedHosts" | "client";

/** One API process, one job worker, real Postgres and Redis, simulated hosts in processes of their own. */
export interface DurableCluster {
  sql: postgres.Sql;
  /** One API request as the admin. Throws for an answer that is no success. */
  request<T>(method: string, path: string, body?: unknown): Promise<T>;
  /** Seconds of CPU that each role has used since its start. */
  cpuSeconds(): Record<ProcessRole, number>;
  /** Resident memory of the job worker: now, and at its highest. */
  jobWorkerMemory(): { rssMb: number; peakMb: number };
  stop(): Promise<void>;
}

export interface ClusterOptions {
  hosts: number;
  simulationProcesses: number;
  /** Has Postgres keep account of statements, which costs a little. */
  statements?: boolean;
  onProgress: (text: string) => void;
}

export async function startDurableCluster(options: ClusterOptions): Promise<DurableCluster> {
  const children: ChildProcess[] = [];
  const stops: (() => Promise<unknown>)[] = [];
  const stop = async (): Promise<void> => {
    await Promise.all(children.map(endChild));
    for (const stopOne of stops.toReversed()) await stopOne();
  };
  try {
    await buildMain();
    const database = await startPostgres({
      ...postgresSettings,
      ...(options.statements ? accountOfStatements : {}),
    });
    stops.push(() => database.stop());
    const redis = await startRedis();
    stops.push(() => redis.stop());
    await migrate(database.url);
    const sql = postgres(database.url, {
      max: 4,
      onnotice: () => undefined,
      connection: { enable_seqscan: "off" }, // what is looked at while it is measured should cost little
    });
    stops.push(() => sql.end({ timeout: 5 }));
    const backends = {
      DATABASE_URL: database.url,
      REDIS_URL: redis.url,
      BERTH_LOG_LEVEL: "warn",
      BERTH_READY_JSON: "true",
    };
    const start = (...args: Parameters<typeof startMain>): ChildProcess => {
      const child = startMain(...args);
      children.push(child);
      return child;
    };
    const admin = { BERTH_PORT: "0", BERTH_ADMIN_TOKEN: ADMIN_TOKEN };
    const api = start("api", { ...backends, ...admin });
    const { apiUrl = "" } = await readyLine(api);
    const jobWorker = start("job-worker", backends);
    await readyLine(jobWorker);
    const hosts = await startSimulatedHosts(start, apiUrl, options);
    const dispatcher = new Agent({ connections: 64, pipelining: 1 });
    stops.push(() => dispatcher.destroy());
    const pids = {
      api: [pidOf(api)],
      jobWorker: [pidOf(jobWorker)],
      postgres: [database.process.pid],
      redis: [redis.process.pid],
      simulatedHosts: hosts.map(pidOf),
      client: [process.pid],
    };
    return {
      sql,
      request: (method, path, body) =>
        requestAsAdmin(dispatcher, { method, url: apiUrl + path, body }),
      cpuSeconds: () => cpuSecondsOf(pids),
      jobWorkerMemory: () => memoryOf(pidOf(jobWorker)),
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function startSimulatedHosts(
  start: typeof startMain,
  apiUrl: string,
  { hosts, simulationProcesses, onProgress }: ClusterOptions,
): Promise<ChildProcess[]> {
  const enrolled = Array.from({ length: simulationProcesses }, () => 0);
  const started = enrolled.map((_, index) => {
    const first = Math.floor((hosts * index) / simulationProcesses);
    const after = Math.floor((hosts * (index + 1)) / simulationProcesses);
    const env = { BERTH_API_URL: apiUrl, BERTH_TOKEN: ADMIN_TOKEN };
    const child = start("simulated-hosts", env, [`--first=${first}`, `--hosts=${after - first}`]);
    const ready = readyLine(
      child,
      (line) => {
        enrolled[index] = line.enrolled ?? after - first;
        onProgress(`${enrolled.reduce((sum, count) => sum + count, 0)} of ${hosts} hosts enrolled`);
      },
      ENROL_DEADLINE_MS,
    );
    return { child, ready };
  });
  await Promise.all(started.map(({ ready }) => ready));
  return started.map(({ child }) => child);
}

/** Processes with their children: every connection to Postgres is a process. */
function cpuSecondsOf(pids: Record<ProcessRole, number[]>): Record<ProcessRole, number> {
  const ticks = new Map<number, { parent: number; ticks: number }>();
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    const stat = statOf(Number(entry));
    if (stat) ticks.set(Number(entry), stat);
  }
  const sumOf = (roots: readonly number[], withChildren: boolean): number => {
    let sum = 0;
    for (const [pid, at] of ticks) {
      if (roots.includes(pid) || (withChildren && roots.includes(at.parent))) sum += at.ticks;
    }
    return sum / CLOCK_TICKS_PER_SECOND;
  };
  return {
    api: sumOf(pids.api, false),
    jobWorker: sumOf(pids.jobWorker, false),
    postgres: sumOf(pids.postgres, true),
    redis: sumOf(pids.redis, false),
    simulatedHosts: sumOf(pids.simulatedHosts, false),
    client: sumOf(pids.client, false),
  };
}
