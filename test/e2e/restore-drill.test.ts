import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import postgres from "postgres";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { BerthSet } from "../../src/contracts/api/sets.ts";
import type { Host } from "../../src/contracts/api/hosts.ts";
import { runSimulatedHosts } from "../../src/main/compose/simulated-hosts.ts";
import { migrate } from "../../src/db/migrate.ts";
import { smallService } from "../support/fleet/http-hosts.ts";
import { findFreePort } from "../support/servers/child-server.ts";
import { type MainProcess, startMain } from "../support/servers/main-process.ts";
import {
  dumpDatabase,
  type PostgresServer,
  restoreDatabase,
  startPostgres,
} from "../support/servers/postgres-server.ts";
import { type RedisServer, startRedis } from "../support/servers/redis-server.ts";
import { waitUntil } from "../support/wait-until.ts";

/**
 * A drill of docs/guides/backup.md: an old backup is restored on a new server under 20 hosts. I17:
 * no set that ran is removed, and the fleet converges without an operator.
 */
const HOSTS = 20;
const settleDeadlineMs = 120_000;
const adminToken = "brt_an-admin-of-the-restore-drill";

let redis: RedisServer;
let folder: string;
let apiUrl: string;
let server: PostgresServer;
let database: postgres.Sql;
let processes: MainProcess[] = [];
const stopping = new AbortController();
let hosts: Promise<void>;
/** Sets that an agent has begun to remove. */
const removed = new Set<string>();
/** Sets whose containers run, whatever the database says. */
const running = new Set<string>();
/** A set that moves after the backup. A restored database has it on its previous host. */
const moved = { setId: "", starts: 0, removals: 0 };

beforeAll(async () => {
  [redis, server] = await Promise.all([startRedis(), startPostgres()]);
  folder = await mkdtemp(path.join(tmpdir(), "berth-drill-"));
  apiUrl = `http://127.0.0.1:${await findFreePort()}`;
  await startBerth();
  hosts = runSimulatedHosts({
    apiUrl,
    enrollToken: async (name) =>
      (await request<{ secret: string }>("POST", "/v1/tokens", { name, role: "enroll" })).secret,
    prefix: "drill",
    first: 0,
    hosts: HOSTS,
    zones: 2,
    racks: 2,
    allocatable: {
      cpuMillis: 8_000,
      memoryBytes: 2 ** 34,
      volumeBytes: 2 ** 36,
      rootfsBytes: 2 ** 36,
    },
    signal: stopping.signal,
    usageIntervalMs: 5_000,
    limits: { fullIntervalMs: 10_000 },
    intercept: async ({ verb, at, setId }) => {
      if (setId === undefined) return;
      if (setId === moved.setId) {
        if (verb === "start" && at === "end") moved.starts++;
        if (verb === "remove" && at === "end") moved.removals++;
        return;
      }
      if (verb === "remove") removed.add(setId);
      if (verb === "remove" || verb === "stop" || verb === "stopAll") running.delete(setId);
      if (verb === "start" && at === "end") running.add(setId);
    },
  });
  hosts.catch(() => undefined); // the test fails at its deadline
});

afterAll(async () => {
  stopping.abort(new Error("the drill ends"));
  await hosts;
  await stopBerth();
  await Promise.all([server.stop(), redis.stop()]);
  await rm(folder, { recursive: true, force: true });
});

it("I17: a restored old backup removes no set that runs, and the fleet converges", async () => {
  for (const name of ["web", "api", "old"])
    await request("POST", "/v1/services", smallService(name, 10));
  await waitRunning({ web: 10, api: 10, old: 10 });
  await waitUntil("all hosts are ready", async () => {
    const { items } = await request<{ items: Host[] }>("GET", "/v1/hosts");
    return items.filter(({ state, reported }) => state === "ready" && reported).length === HOSTS;
  });
  const backup = path.join(folder, "berth.dump");
  await dumpDatabase(server.url, backup);

  await request("POST", "/v1/services", smallService("new", 10));
  await request("POST", "/v1/services/web/scale", { replicas: 20 });
  await request("DELETE", "/v1/services/old");
  await waitRunning({ web: 20, api: 10, new: 10 });
  await waitUntil("the old sets are gone", async () => (await listSets()).length === 40);
  await moveAnySet();
  const before = await listSets();
  expect([...running].toSorted()).toEqual(before.toSorted());
  removed.clear();

  await stopBerth();
  await server.stop();
  server = await startPostgres();
  await restoreDatabase(server.url, backup);
  const startedAtMs = performance.now();
  await startBerth();
  await waitRunning({ web: 10, api: 10, old: 10 });
  const unknown = await waitUntil(
    "all hosts are ready, and name the sets that the database lacks",
    async () => {
      const { items } = await request<{ items: Host[] }>("GET", "/v1/hosts");
      const setIds = items.flatMap(({ unknownSets }) => unknownSets);
      const isReady = items.length === HOSTS && items.every(({ state }) => state === "ready");
      if (isReady && setIds.length === 20) return { setIds, items };
      const states = items.map(({ name, state, reason }) => `${name} ${state} ${reason?.code}`);
      throw new Error(JSON.stringify({ unknown: setIds.length, states }));
    },
    { deadlineMs: settleDeadlineMs, everyMs: 200 },
  );
  // The restored rows say that all their sets run. The containers show it.
  await waitUntil("all sets of both run", () => running.size === before.length + 10, {
    deadlineMs: settleDeadlineMs,
  });
  await waitUntil("the moved set runs on its previous host alone", () => moved.removals > 0, {
    deadlineMs: settleDeadlineMs,
  });
  expect(moved).toMatchObject({ starts: 1, removals: 1 });
  const convergedMs = Math.round(performance.now() - startedAtMs);
  const after = new Set([...(await listSets()), ...unknown.setIds]);
  process.stdout.write(
    `${JSON.stringify({ hosts: HOSTS, setsBefore: before.length, setsAfter: after.size, removed: removed.size, unknownSets: unknown.setIds.length, convergedMs })}\n`,
  );
  expect([...removed]).toEqual([]);
  expect(before.filter((setId) => !after.has(setId))).toEqual([]);
  // The 10 sets of the service that was deleted after the backup run again.
  expect(after.size).toBe(before.length + 10);
  expect([...running].toSorted()).toEqual([...after].toSorted());

  for (const host of unknown.items.filter(({ unknownSets }) => unknownSets.length > 0))
    await request("DELETE", `/v1/hosts/${host.id}/unknown-sets`);
  await waitUntil("the unknown sets are removed", () => removed.size === 20, {
    deadlineMs: settleDeadlineMs,
  });
  expect([...removed].toSorted()).toEqual(unknown.setIds.toSorted());
});

async function startBerth(): Promise<void> {
  await migrate(server.url);
  database = postgres(server.url, { max: 1, onnotice: () => undefined });
  const backends = { DATABASE_URL: server.url, REDIS_URL: redis.url };
  const api = { ...backends, BERTH_ADMIN_TOKEN: adminToken, BERTH_PORT: new URL(apiUrl).port };
  processes = await Promise.all([startMain("api", api), startMain("job-worker", backends)]);
}

async function stopBerth(): Promise<void> {
  await Promise.all(processes.map((main) => main.end("SIGTERM")));
  await database.end({ timeout: 5 });
}

/** Waits until exactly these services run exactly so many sets. */
async function waitRunning(replicas: Record<string, number>): Promise<void> {
  const expected = JSON.stringify(
    Object.entries(replicas).toSorted(([a], [b]) => (a < b ? -1 : 1)),
  );
  await waitUntil(
    `${expected} run`,
    async () => {
      const rows = await database<{ name: string; sets: number }[]>`
        select v.name, count(*)::int as sets from sets s join services v on v.id = s.service_id
        where s.ready and s.desired = 'running' group by v.name order by v.name`;
      if (JSON.stringify(rows.map(({ name, sets }) => [name, sets])) === expected) return true;
      const others = await database`
        select state, reason->>'code' as code, host_id is null as pending, desired, count(*)::int as sets
        from sets where not ready and deleted_at is null group by 1, 2, 3, 4`;
      throw new Error(JSON.stringify({ ready: rows, others }));
    },
    { deadlineMs: settleDeadlineMs, everyMs: 100 },
  );
}

/**
 * Stops a set, moves it to another host and starts it again. Only such a set has the same id on
 * both hosts.
 */
async function moveAnySet(): Promise<void> {
  const readSet = async (setId: string) => request<BerthSet>("GET", `/v1/sets/${setId}`);
  const { items } = await request<{ items: BerthSet[] }>("GET", "/v1/sets?service=api");
  const [set] = items;
  if (!set) throw new Error("the service has sets");
  const setId = set.id;
  await request("POST", `/v1/sets/${setId}/stop`);
  await waitUntil("the set is stopped", async () => (await readSet(setId)).state === "stopped", {
    deadlineMs: settleDeadlineMs,
  });
  await request("POST", `/v1/sets/${setId}/move`, {});
  await waitUntil(
    "the set is on another host",
    async () => ![undefined, set.host?.id].includes((await readSet(setId)).host?.id),
    { deadlineMs: settleDeadlineMs },
  );
  await request("POST", `/v1/sets/${setId}/start`);
  await waitUntil("the moved set runs", async () => (await readSet(setId)).ready, {
    deadlineMs: settleDeadlineMs,
  });
  running.add(setId); // from here on, only its next start and its removal count
  moved.setId = setId;
}

async function listSets(): Promise<string[]> {
  const rows = await database<{ id: string }[]>`select id from sets where host_id is not null`;
  return rows.map(({ id }) => id);
}

async function request<T>(method: string, target: string, body?: unknown): Promise<T> {
  const response = await fetch(apiUrl + target, {
    method,
    headers: { Authorization: `Bearer ${adminToken}`, "Content-Type": "application/json" },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    signal: AbortSignal.timeout(30_000),
  });
  if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
  return (await response.json().catch(() => undefined)) as T;
}
