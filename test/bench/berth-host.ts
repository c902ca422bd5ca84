import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Agent } from "undici";
import { migrate } from "../../src/db/migrate.ts";
import { startPostgres } from "../support/servers/postgres-server.ts";
import { startRedis } from "../support/servers/redis-server.ts";
import { waitUntil } from "../support/wait-until.ts";
import {
  ADMIN_TOKEN,
  buildMain,
  CLOCK_TICKS_PER_SECOND,
  endChild,
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
const durable = { fsync: "on", full_page_writes: "on", synchronous_commit: "on" };

/**
 * Berth on this machine as an operator runs it: API, job worker and host agent, each a process of
 * its own.
 */
export interface BerthHost {
  hostId: string;
  /** Sends one API request as the admin. Throws for an answer that is not a success. */
  request<T>(method: string, path: string, body?: unknown): Promise<T>;
  /** Returns the CPU time that the agent has used since its start, and its memory. */
  agentUsage(): { cpuSeconds: number; rssMb: number };
  stop(): Promise<void>;
}

export async function startBerthHost(): Promise<BerthHost> {
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
    const start = async (name: string, env: Record<string, string>) => {
      const child = startMain(name, env);
      stops.push(() => endChild(child));
      return { child, ...(await readyLine(child)) };
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
    const enroll = await request<{ secret: string }>("POST", "/v1/tokens", {
      name: "bench-host",
      role: "enroll",
    });
    const { child: agent } = await start("host-agent", {
      ...settings,
      BERTH_API_URL: apiUrl,
      BERTH_ENROLL_TOKEN: enroll.secret,
      BERTH_AGENT_DATA_DIR: directory,
      // The agent purges the trash of a benchmark immediately.
      BERTH_VOLUME_RETENTION_HOURS: "0",
    });
    const hostId = await waitUntil("the host is ready", async () => {
      const { items } = await request<{ items: { id: string; state: string }[] }>(
        "GET",
        "/v1/hosts",
      );
      return items.find(({ state }) => state === "ready")?.id;
    });
    const agentUsage = () => ({
      cpuSeconds: (statOf(pidOf(agent))?.ticks ?? 0) / CLOCK_TICKS_PER_SECOND,
      rssMb: memoryOf(pidOf(agent)).rssMb,
    });
    return { hostId, request, agentUsage, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}
