import type { ChildProcess } from "node:child_process";
import { Agent, request } from "undici";
import postgres from "postgres";
import { migrate } from "../../src/db/migrate.ts";
import { startPostgres } from "../support/servers/postgres-server.ts";
import { startRedis } from "../support/servers/redis-server.ts";
import {
  ADMIN_TOKEN,
  buildMain,
  cpuSecondsOf,
  endChild,
  memoryOf,
  pidOf,
  readyLine,
  requestApi,
  startMain,
  terminateChild,
} from "./main-processes.ts";

/**
 * The settings that differ from Postgres 15's defaults. Durability is complete: fsync and its
 * companions are on.
 */
export const postgresSettings = {
  fsync: "on",
  full_page_writes: "on",
  synchronous_commit: "on",
  autovacuum: "on",
  shared_buffers: "1GB",
  max_wal_size: "4GB",
  /** Records the exact moment of every commit: pg_xact_commit_timestamp. */
  track_commit_timestamp: "on",
};

/** Includes planning, which is a good part of statements as short as these. */
const statementStatistics = {
  shared_preload_libraries: "pg_stat_statements",
  "pg_stat_statements.track_planning": "on",
};
const ENROLL_DEADLINE_MS = 600_000;

export type ProcessRole = "api" | "jobWorker" | "postgres" | "redis" | "simulatedHosts" | "client";

/**
 * An API process for clients and one for hosts (docs/guides/large-fleets.md), one job worker, real
 * Postgres and Redis, simulated hosts in processes of their own.
 */
export interface DurableCluster {
  sql: postgres.Sql;
  databaseUrl: string;
  /** Sends one API request as the admin. Throws for an answer that is not a success. */
  request<T>(method: string, path: string, body?: unknown): Promise<T>;
  /** Sends one API request with this bearer secret. Throws for an answer that is not a success. */
  requestAs<T>(secret: string, method: string, path: string, body?: unknown): Promise<T>;
  /**
   * Calls of simulated hosts that the API has not answered within 15 s beyond the wait they allow.
   */
  hostTimeouts(): number;
  /** Returns the CPU seconds that each role has used since its start. */
  cpuSeconds(): Record<ProcessRole, number>;
  /** Returns the resident memory of the job worker: now, and at its peak. */
  jobWorkerMemory(): { rssMb: number; peakMb: number };
  /**
   * Returns the p99 of the event loop's lag in the API, in milliseconds, since the previous call.
   */
  apiLoopLagMs(): Promise<number>;
  stop(): Promise<void>;
}

export interface ClusterOptions {
  hosts: number;
  simulationProcesses: number;
  /** Clients and hosts share one API process. */
  hasOneApi: boolean;
  /** Loads pg_stat_statements, which costs a little. */
  statements?: boolean;
  /** Writes CPU profiles of the API and the job worker into this folder. */
  profileFolder?: string | undefined;
  onProgress: (text: string) => void;
}

export async function startDurableCluster(options: ClusterOptions): Promise<DurableCluster> {
  const children: ChildProcess[] = [];
  const stops: (() => Promise<unknown>)[] = [];
  const stop = async (): Promise<void> => {
    // A profile is written at an orderly exit only.
    const end = options.profileFolder === undefined ? endChild : terminateChild;
    await Promise.all(children.map(end));
    for (const stopOne of stops.toReversed()) await stopOne();
  };
  try {
    await buildMain();
    const database = await startPostgres({
      ...postgresSettings,
      ...(options.statements ? statementStatistics : {}),
    });
    stops.push(() => database.stop());
    const redis = await startRedis();
    stops.push(() => redis.stop());
    await migrate(database.url);
    const sql = postgres(database.url, {
      max: 4,
      onnotice: () => undefined,
      connection: { enable_seqscan: "off" }, // keeps the benchmark's own queries cheap
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
    const { profileFolder } = options;
    const nodeFlags =
      profileFolder === undefined ? [] : ["--cpu-prof", `--cpu-prof-dir=${profileFolder}`];
    const api = start("api", { ...backends, ...admin }, { nodeFlags });
    const { apiUrl = "" } = await readyLine(api);
    const hostApi = options.hasOneApi
      ? api
      : start("api", { ...backends, ...admin }, { nodeFlags });
    const { apiUrl: hostApiUrl = "" } = hostApi === api ? { apiUrl } : await readyLine(hostApi);
    const toUrl = (path: string): string =>
      (path.startsWith("/agent/") ? hostApiUrl : apiUrl) + path;
    const jobWorker = start("job-worker", backends, { nodeFlags });
    await readyLine(jobWorker);
    const { children: hosts, timeouts } = await startSimulatedHosts(start, hostApiUrl, options);
    const dispatcher = new Agent({ connections: 64, pipelining: 1 });
    stops.push(() => dispatcher.destroy());
    const pids = {
      api: [...new Set([api, hostApi])].map(pidOf),
      jobWorker: [pidOf(jobWorker)],
      postgres: [pidOf(database.process)],
      redis: [pidOf(redis.process)],
      simulatedHosts: hosts.map(pidOf),
      client: [process.pid],
    };
    return {
      sql,
      databaseUrl: database.url,
      request: (method, path, body) =>
        requestApi(dispatcher, { secret: ADMIN_TOKEN, method, url: toUrl(path), body }),
      requestAs: (secret, method, path, body) =>
        requestApi(dispatcher, { secret, method, url: toUrl(path), body }),
      hostTimeouts: () => timeouts.reduce((sum, count) => sum + count, 0),
      cpuSeconds: () => cpuSecondsByRole(pids),
      jobWorkerMemory: () => memoryOf(pidOf(jobWorker)),
      apiLoopLagMs: () => readLoopLag(dispatcher, apiUrl),
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
): Promise<{ children: ChildProcess[]; timeouts: number[] }> {
  const timeouts = Array.from({ length: simulationProcesses }, () => 0);
  const enrolled = Array.from({ length: simulationProcesses }, () => 0);
  const started = enrolled.map((_, index) => {
    const first = Math.floor((hosts * index) / simulationProcesses);
    const after = Math.floor((hosts * (index + 1)) / simulationProcesses);
    const env = { BERTH_API_URL: apiUrl, BERTH_TOKEN: ADMIN_TOKEN };
    const child = start("simulated-hosts", env, {
      args: [`--first=${first}`, `--hosts=${after - first}`],
    });
    const ready = readyLine(
      child,
      (line) => {
        if (line.timeouts !== undefined) timeouts[index] = line.timeouts;
        if (line.timeouts !== undefined || line.ready === true) return;
        enrolled[index] = line.enrolled ?? after - first;
        onProgress(`${enrolled.reduce((sum, count) => sum + count, 0)} of ${hosts} hosts enrolled`);
      },
      ENROLL_DEADLINE_MS,
    );
    return { child, ready };
  });
  await Promise.all(started.map(({ ready }) => ready));
  return { children: started.map(({ child }) => child), timeouts };
}

/** The metric covers the time since the previous scrape. */
async function readLoopLag(dispatcher: Agent, apiUrl: string): Promise<number> {
  const response = await request(`${apiUrl}/metrics`, {
    dispatcher,
    headers: { authorization: `Bearer ${ADMIN_TOKEN}` },
  });
  const text = await response.body.text();
  return Math.round(Number(/^nodejs_eventloop_lag_p99_seconds (\S+)/m.exec(text)?.[1]) * 1_000);
}

function cpuSecondsByRole(pids: Record<ProcessRole, number[]>): Record<ProcessRole, number> {
  const secondsOf = (role: ProcessRole): number =>
    cpuSecondsOf(pids[role], { withChildren: role === "postgres" });
  return {
    api: secondsOf("api"),
    jobWorker: secondsOf("jobWorker"),
    postgres: secondsOf("postgres"),
    redis: secondsOf("redis"),
    simulatedHosts: secondsOf("simulatedHosts"),
    client: secondsOf("client"),
  };
}
