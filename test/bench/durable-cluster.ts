import { type ChildProcess, execFile, spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Agent, request as httpRequest } from "undici";
import postgres from "postgres";
import { migrate } from "../../src/db/migrate.ts";
import { startPostgres } from "../support/postgres-server.ts";
import { startRedis } from "../support/redis-server.ts";

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

const ADMIN_TOKEN = "bench-admin-token-0123456789";
const READY_DEADLINE_MS = 60_000;
const ENROL_DEADLINE_MS = 600_000;
const CLOCK_TICKS_PER_SECOND = 100;
const root = fileURLToPath(new URL("../../", import.meta.url));

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
    // What users run: from the sources each closure costs a little more.
    await promisify(execFile)("npm", ["run", "build"], { cwd: root });
    const database = await startPostgres({
      ...postgresSettings,
      ...(options.statements ? { shared_preload_libraries: "pg_stat_statements" } : {}),
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
    const api = startMain(children, "api", [], {
      ...backends,
      BERTH_PORT: "0",
      BERTH_ADMIN_TOKEN: ADMIN_TOKEN,
    });
    const { apiUrl = "" } = await readyLine(api);
    const jobWorker = startMain(children, "job-worker", [], backends);
    await readyLine(jobWorker);
    const hosts = await startSimulatedHosts(children, apiUrl, options);
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
      request: (method, path, body) => request(dispatcher, apiUrl, method, path, body),
      cpuSeconds: () => cpuSecondsOf(pids),
      jobWorkerMemory: () => memoryOf(pidOf(jobWorker)),
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

function startMain(
  children: ChildProcess[],
  name: string,
  args: readonly string[],
  env: Record<string, string>,
): ChildProcess {
  const node = [process.execPath, `${root}dist/main/${name}.js`, ...args];
  // The kernel ends it when this process ends, however that happens.
  const child = spawn("setpriv", ["--pdeathsig", "KILL", "--", ...node], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { PATH: process.env["PATH"], HOME: process.env["HOME"], ...env },
  });
  children.push(child);
  return child;
}

interface ReadyLine {
  ready?: boolean;
  apiUrl?: string;
  enrolled?: number;
}

async function readyLine(
  child: ChildProcess,
  onLine: (line: ReadyLine) => void = () => undefined,
  deadlineMs = READY_DEADLINE_MS,
): Promise<ReadyLine> {
  return await new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new Error("a process was not ready in time")),
      deadlineMs,
    );
    child.once("exit", (code) => reject(new Error(`a process ended with exit code ${code}`)));
    if (!child.stdout) throw new Error("its output is piped");
    createInterface({ input: child.stdout }).on("line", (text) => {
      if (!text.startsWith("{")) return;
      if (text.includes('"level":')) {
        process.stderr.write(`${text}\n`); // warnings of the process's log
        return;
      }
      const line = JSON.parse(text) as ReadyLine;
      onLine(line);
      if (line.ready !== true) return;
      clearTimeout(timer);
      resolve(line);
    });
  });
}

async function startSimulatedHosts(
  children: ChildProcess[],
  apiUrl: string,
  { hosts, simulationProcesses, onProgress }: ClusterOptions,
): Promise<ChildProcess[]> {
  const enrolled = Array.from({ length: simulationProcesses }, () => 0);
  const started = enrolled.map((_, index) => {
    const first = Math.floor((hosts * index) / simulationProcesses);
    const after = Math.floor((hosts * (index + 1)) / simulationProcesses);
    const child = startMain(
      children,
      "simulated-hosts",
      [`--first=${first}`, `--hosts=${after - first}`],
      { BERTH_API_URL: apiUrl, BERTH_TOKEN: ADMIN_TOKEN },
    );
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

async function request<T>(
  dispatcher: Agent,
  apiUrl: string,
  method: string,
  path: string,
  body: unknown,
): Promise<T> {
  const response = await httpRequest(apiUrl + path, {
    dispatcher,
    method: method as "GET" | "POST",
    headers: { Authorization: `Bearer ${ADMIN_TOKEN}`, "Content-Type": "application/json" },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.body.text();
  if (response.statusCode >= 300)
    throw new Error(`${method} ${path} answered ${response.statusCode}: ${text}`);
  return JSON.parse(text) as T;
}

async function endChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGKILL");
  await gone;
}

function pidOf(child: ChildProcess): number {
  if (child.pid === undefined) throw new Error("a process that runs has a pid");
  return child.pid;
}

/** Processes with their children: every connection to Postgres is a process. */
function cpuSecondsOf(pids: Record<ProcessRole, number[]>): Record<ProcessRole, number> {
  const ticks = new Map<number, { parent: number; ticks: number }>();
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    const fields = readFile(`/proc/${entry}/stat`).split(") ")[1]?.split(" ");
    if (!fields) continue;
    ticks.set(Number(entry), {
      parent: Number(fields[1]),
      ticks: Number(fields[11]) + Number(fields[12]),
    });
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

function memoryOf(pid: number): { rssMb: number; peakMb: number } {
  const status = readFile(`/proc/${pid}/status`);
  const mbOf = (name: string): number =>
    Math.round(Number(new RegExp(`${name}:\\s+(\\d+) kB`).exec(status)?.[1]) / 1024);
  return { rssMb: mbOf("VmRSS"), peakMb: mbOf("VmHWM") };
}

/** Empty for a process that has ended meanwhile. */
function readFile(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}
