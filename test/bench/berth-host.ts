import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Agent } from "undici";
import { defaultAgentLimits } from "../../src/agent/base/agent-limits.ts";
import { migrate } from "../../src/db/migrate.ts";
import { startPostgres } from "../support/servers/postgres-server.ts";
import { startRedis } from "../support/servers/redis-server.ts";
import { waitUntil } from "../support/wait-until.ts";
import {
  ADMIN_TOKEN,
  buildMain,
  CLOCK_TICKS_PER_SECOND,
  endChild,
  type MainOptions,
  memoryOf,
  pidOf,
  readyLine,
  requestApi,
  startMain,
  statOf,
} from "./main-processes.ts";

/**
 * With this overcommit thirty sets of half a core fit on two busy cores. The sets only start, and
 * the peers check no capacity at all.
 */
const generousPool = {
  overcommitPercent: { cpuMillis: 1_000, memoryBytes: 400 },
  highWaterPercent: { cpuMillis: 1_000, memoryBytes: 400, rootfsBytes: 100 },
};
/** Benchmarks wait as long as a busy machine needs. */
const READY_DEADLINE_MS = 600_000;
/** As in systemd/, for a simulated agent too. */
const agentFlags = ["--max-semi-space-size=1"];
const durable = { fsync: "on", full_page_writes: "on", synchronous_commit: "on" };

/**
 * Berth on this machine as an operator runs it: API, job worker and host agent, each a process of
 * its own.
 */
export interface BerthHost {
  hostId: string;
  apiUrl: string;
  /** Sends one API request as the admin. Throws for an answer that is not a success. */
  request<T>(method: string, path: string, body?: unknown): Promise<T>;
  /** Returns the CPU time that the agent has used since its start, and its memory. */
  agentUsage(): { cpuSeconds: number; rssMb: number };
  /** Suspends the agent, so that it undoes no change, until `resumeAgent`. */
  suspendAgent(): void;
  resumeAgent(): void;
  stop(): Promise<void>;
}

/**
 * @param options.isSimulated the agent has simulated containers, in a process of its own, with the
 *   intervals of a real agent
 * @param options.agentSettings more settings of the agent
 */
export async function startBerthHost({
  isSimulated = false,
  agentSettings = {},
}: {
  isSimulated?: boolean;
  agentSettings?: Readonly<Record<string, string>>;
} = {}): Promise<BerthHost> {
  const stops: (() => Promise<unknown>)[] = [];
  const stop = async () => {
    for (const stopOne of stops.toReversed()) await stopOne();
  };
  try {
    await buildMain();
    const database = await startPostgres(durable);
    stops.push(() => database.stop());
    const redis = await startRedis();
    stops.push(() => redis.stop());
    const directory = await mkdtemp(join(tmpdir(), "berth-bench-"));
    stops.push(() => rm(directory, { recursive: true, force: true }));
    await migrate(database.url);
    const settings = { BERTH_LOG_LEVEL: "warn", BERTH_READY_JSON: "true" };
    const backends = { ...settings, DATABASE_URL: database.url, REDIS_URL: redis.url };
    const start = async (name: string, env: Record<string, string>, options?: MainOptions) => {
      const child = startMain(name, env, options);
      stops.push(() => endChild(child));
      return { child, ...(await readyLine(child, undefined, READY_DEADLINE_MS)) };
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
      requestApi<T>(dispatcher, { secret: ADMIN_TOKEN, method, url: apiUrl + path, body });
    await request("PUT", "/v1/host-pools/default", generousPool);
    const startAgent = async () => {
      const { secret } = await request<{ secret: string }>("POST", "/v1/tokens", {
        name: "bench-host",
        role: "enroll",
      });
      return start("host-agent", {
        ...settings,
        BERTH_API_URL: apiUrl,
        BERTH_ENROLL_TOKEN: secret,
        BERTH_AGENT_DATA_DIR: directory,
        // The agent purges the trash of a benchmark immediately.
        BERTH_VOLUME_RETENTION_HOURS: "0",
        ...agentSettings,
      });
    };
    const startSimulated = () =>
      start(
        "simulated-hosts",
        {
          BERTH_LOG_LEVEL: "warn",
          BERTH_API_URL: apiUrl,
          BERTH_TOKEN: ADMIN_TOKEN,
          BERTH_AGENT_USAGE_INTERVAL_MS: String(defaultAgentLimits.usageIntervalMs),
        },
        { args: ["--hosts", "1", "--intervals", "agent"], nodeFlags: agentFlags },
      );
    const { child: agent } = await (isSimulated ? startSimulated() : startAgent());
    const hostId = await waitUntil(
      "the host is ready",
      async () => {
        const { items } = await request<{ items: { id: string; state: string }[] }>(
          "GET",
          "/v1/hosts",
        );
        return items.find(({ state }) => state === "ready")?.id;
      },
      { deadlineMs: READY_DEADLINE_MS },
    );
    const agentUsage = () => ({
      cpuSeconds: (statOf(pidOf(agent))?.ticks ?? 0) / CLOCK_TICKS_PER_SECOND,
      rssMb: memoryOf(pidOf(agent)).rssMb,
    });
    const suspendAgent = () => void process.kill(pidOf(agent), "SIGSTOP");
    const resumeAgent = () => void process.kill(pidOf(agent), "SIGCONT");
    return { hostId, apiUrl, request, agentUsage, suspendAgent, resumeAgent, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}
