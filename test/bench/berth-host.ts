import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { Agent, fetch } from "undici";
import { migrate } from "../../src/db/migrate.ts";
import { startPostgres } from "../support/postgres-server.ts";
import { startRedis } from "../support/redis-server.ts";
import { waitUntil } from "../support/wait-until.ts";

const ADMIN_TOKEN = "bench-admin-token-0123456789";
const READY_DEADLINE_MS = 60_000;
const mainFolder = fileURLToPath(new URL("../../src/main/", import.meta.url));
/**
 * Thirty sets of half a core fit beside what two busy cores report: they do nothing but start, and no peer asks what
 * fits.
 */
const roomy = {
  overcommitPercent: { cpuMillis: 1_000, memoryBytes: 400 },
  highWaterPercent: { cpuMillis: 1_000, memoryBytes: 400, rootfsBytes: 100 },
};
const durable = { fsync: "on", full_page_writes: "on", synchronous_commit: "on" };

/** Berth on this machine as it is run in earnest: API, job worker and host agent, each a process of its own. */
export interface BerthHost {
  hostId: string;
  /** One API request as the admin. Throws for an answer that is no success. */
  request<T>(method: string, path: string, body?: unknown): Promise<T>;
  stop(): Promise<void>;
}

export async function startBerthHost(): Promise<BerthHost> {
  const stops: (() => Promise<unknown>)[] = [];
  const stop = async () => {
    for (const stopOne of stops.toReversed()) await stopOne();
  };
  try {
    const database = await startPostgres(durable);
    stops.push(() => database.stop());
    const redis = await startRedis();
    stops.push(() => redis.stop());
    const directory = await mkdtemp(join(tmpdir(), "berth-bench-"));
    stops.push(() => rm(directory, { recursive: true, force: true }));
    await migrate(database.url);
    const settings = { BERTH_LOG_LEVEL: "warn", BERTH_READY_JSON: "true" };
    const backends = { ...settings, DATABASE_URL: database.url, REDIS_URL: redis.url };
    const start = async (name: string, env: Record<string, string>) => {
      const child = startMain(name, env);
      stops.push(() => endChild(child));
      return readyLine(name, child);
    };
    const { apiUrl = "" } = await start("api", {
      ...backends,
      BERTH_PORT: "0",
      BERTH_ADMIN_TOKEN: ADMIN_TOKEN,
    });
    await start("job-worker", backends);
    const dispatcher = new Agent({ connections: 8 });
    stops.push(() => dispatcher.destroy());
    const request = <T>(method: string, path: string, body?: unknown) =>
      send<T>(dispatcher, { method, url: apiUrl + path, body });
    await request("PUT", "/v1/host-pools/default", roomy);
    const enroll = await request<{ secret: string }>("POST", "/v1/tokens", {
      name: "bench-host",
      role: "enroll",
    });
    await start("host-agent", {
      ...settings,
      BERTH_API_URL: apiUrl,
      BERTH_ENROLL_TOKEN: enroll.secret,
      BERTH_AGENT_DATA_DIR: directory,
    });
    const hostId = await waitUntil("the host is ready", async () => {
      const { items } = await request<{ items: { id: string; state: string }[] }>(
        "GET",
        "/v1/hosts",
      );
      return items.find(({ state }) => state === "ready")?.id;
    });
    return { hostId, request, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

function startMain(name: string, env: Record<string, string>): ChildProcess {
  const node = [process.execPath, "--import", "tsx", `${mainFolder}${name}.ts`];
  // The kernel ends it when this process ends, however that happens.
  return spawn("setpriv", ["--pdeathsig", "KILL", "--", ...node], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { PATH: process.env["PATH"], HOME: process.env["HOME"], ...env },
  });
}

async function readyLine(name: string, child: ChildProcess): Promise<{ apiUrl?: string }> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      reject(new Error(`${name} was not ready within ${READY_DEADLINE_MS} ms`));
    }, READY_DEADLINE_MS);
    child.once("exit", (code) => {
      clearTimeout(timer);
      reject(new Error(`${name} ended with exit code ${code}`));
    });
    if (!child.stdout) throw new Error("its output is piped");
    createInterface({ input: child.stdout }).on("line", (text) => {
      if (!text.startsWith("{")) return;
      const line = JSON.parse(text) as { ready?: boolean; apiUrl?: string };
      if (line.ready !== true) return;
      clearTimeout(timer);
      resolve(line);
    });
  });
}

async function send<T>(
  dispatcher: Agent,
  { method, url, body }: { method: string; url: string; body: unknown },
): Promise<T> {
  const response = await fetch(url, {
    dispatcher,
    method,
    headers: { Authorization: `Bearer ${ADMIN_TOKEN}`, "Content-Type": "application/json" },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${method} ${url} answered ${response.status}: ${text}`);
  return (text === "" ? undefined : JSON.parse(text)) as T;
}

/** The agent leaves its containers running, as it should: they were removed by then. */
async function endChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGKILL");
  await gone;
}
