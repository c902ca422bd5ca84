import { cp, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import Docker from "dockerode";
import { Redis } from "ioredis";
import postgres from "postgres";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { Host } from "../../src/contracts/api/hosts.ts";
import type { Service } from "../../src/contracts/api/services.ts";
import type { BerthSet } from "../../src/contracts/api/sets.ts";
import { findFreePort } from "../support/servers/child-server.ts";
import { baseImage } from "../support/docker/docker.ts";
import { type MainProcess, startMain } from "../support/servers/main-process.ts";
import { type RedisServer, startRedis } from "../support/servers/redis-server.ts";
import { createTestDatabase, type TestDatabase } from "../support/servers/test-services.ts";
import { waitUntil } from "../support/wait-until.ts";

/**
 * I1, I3 and I6 on real Docker. While a service scales from 2 to 10 sets, the test kills one part
 * of Berth with SIGKILL, or flushes Redis, and starts it again. Afterwards each of the 10 sets runs
 * once, and nothing else remains. The first two sets serve without a pause.
 */
const docker = new Docker();
const adminToken = "brt_an-admin-of-the-chaos-tests";
const settleDeadlineMs = 90_000;
const probeEveryMs = 50;
const SMALL = 2;
const LARGE = 10;

let database: TestDatabase;
let redis: RedisServer;
let dataDir: string;
let apiUrl: string;
const running: Partial<Record<Program, MainProcess>> = {};
type Program = "api" | "job-worker" | "host-agent";

beforeAll(async () => {
  [database, redis] = await Promise.all([createTestDatabase(), startRedis()]);
  dataDir = await mkdtemp(path.join(tmpdir(), "berth-chaos-"));
  apiUrl = `http://127.0.0.1:${await findFreePort()}`;
  await Promise.all([start("api"), start("job-worker")]);
  await request("PUT", "/v1/host-pools/default", {
    // The high-water marks must not reject sets because of other load on the test machine.
    highWaterPercent: { cpuMillis: 1000, memoryBytes: 1000, rootfsBytes: 100 },
  });
  await start("host-agent");
  await request("POST", "/v1/services", service(baseImage));
  await waitSettled(SMALL);
});

afterAll(async () => {
  await request("DELETE", "/v1/services/chaos");
  await waitUntil("everything is gone", async () => (await listContainers()).length === 0, {
    deadlineMs: settleDeadlineMs,
  });
  await Promise.all(Object.values(running).map((main) => main.end("SIGTERM")));
  await redis.stop();
  await rm(dataDir, { recursive: true, force: true });
  await database.drop();
});

it.each([
  { victim: "api", afterMs: 30 },
  { victim: "job-worker", afterMs: 0 },
  { victim: "host-agent", afterMs: 300 },
  { victim: "host-agent", afterMs: 1_000 },
  { victim: "redis", afterMs: 30 },
  { victim: "flush", afterMs: 10 },
] as const)(
  "$victim goes down $afterMs ms into a scale-out: 10 sets, each once",
  async ({ victim, afterMs }) => {
    const before = await listContainers();
    const serving = startProbes(await listSets());
    await request("POST", "/v1/services/chaos/scale", { replicas: LARGE });
    await delay(afterMs); // the moment of the fault, not a wait for something
    await strike(victim);
    await waitSettled(LARGE);
    const { failures } = await serving.stop();

    const sets = await listSets();
    expect(sets.map((set) => [set.state, set.ready])).toEqual(sets.map(() => ["running", true]));
    const containers = await listContainers();
    const expected = sets.flatMap((set) => [`berth-${set.id}-app`, `berth-${set.id}-infra`]);
    expect(containers.map(({ name }) => name).sort()).toEqual(expected.sort());
    // The old containers have not restarted, and they answered every request.
    expect(containers).toEqual(expect.arrayContaining(before));
    expect(failures).toEqual([]);
    expect(await readBookings()).toEqual({ booked: LARGE * 50, allocated: LARGE * 50 });

    await request("POST", "/v1/services/chaos/scale", { replicas: SMALL });
    await waitSettled(SMALL);
    await waitUntil(
      "the other containers are removed",
      async () => (await listContainers()).length === SMALL * 2,
      {
        deadlineMs: settleDeadlineMs,
      },
    );
  },
);

it("I6: an agent that is stopped, replaced by another version and started again disturbs no set", async () => {
  const before = await listContainers();
  const serving = startProbes(await listSets());
  expect(await running["host-agent"]?.end("SIGTERM")).toBe(0);
  const checkout = await copyCheckout("9.9.9");
  try {
    await start("host-agent", checkout);
    await waitUntil("the new version reports", async () => {
      const { items } = await request<{ items: Host[] }>("GET", "/v1/hosts");
      return items.some(({ agentVersion, state }) => agentVersion === "9.9.9" && state === "ready");
    });
    await request("POST", "/v1/services/chaos/scale", { replicas: SMALL + 1 });
    await waitSettled(SMALL + 1);
    await request("POST", "/v1/services/chaos/scale", { replicas: SMALL });
    await waitSettled(SMALL);
  } finally {
    await running["host-agent"]?.end("SIGTERM");
    await start("host-agent");
    await rm(checkout, { recursive: true, force: true });
  }
  const { requests, failures } = await serving.stop();
  expect(failures).toEqual([]);
  expect(requests).toBeGreaterThan(50);
  expect(await listContainers()).toEqual(before);
});

/** Copies this checkout, with another version in its package.json. */
async function copyCheckout(version: string): Promise<string> {
  const root = fileURLToPath(new URL("../..", import.meta.url));
  const copy = await mkdtemp(path.join(tmpdir(), "berth-upgrade-"));
  await cp(path.join(root, "src"), path.join(copy, "src"), { recursive: true });
  await symlink(path.join(root, "node_modules"), path.join(copy, "node_modules"));
  const manifest = JSON.parse(await readFile(path.join(root, "package.json"), "utf8")) as object;
  await writeFile(path.join(copy, "package.json"), JSON.stringify({ ...manifest, version }));
  return copy;
}

function service(image: string) {
  return {
    name: "chaos",
    replicas: SMALL,
    template: {
      cpu: 0.05,
      memory: "32Mi",
      rootfs: "16Mi",
      containers: [
        {
          index: 0,
          name: "app",
          image,
          options: {
            cpu: 100,
            memory: 100,
            command: ["/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/etc"],
            health: { tcp: { port: 8080 } },
            stopTimeoutSeconds: 0,
          },
        },
      ],
    },
  };
}

async function strike(victim: Program | "redis" | "flush"): Promise<void> {
  if (victim === "flush") {
    const client = new Redis(redis.url);
    await client.flushall();
    client.disconnect();
    return;
  }
  if (victim === "redis") {
    await redis.process.kill("SIGKILL");
    await delay(300); // Redis is down for a while
    redis = await startRedis({ port: redis.port });
    return;
  }
  await running[victim]?.end("SIGKILL");
  await start(victim);
}

async function start(program: Program, checkout?: string): Promise<void> {
  const backends = { DATABASE_URL: database.url, REDIS_URL: redis.url };
  const env: Record<Program, Record<string, string>> = {
    api: { ...backends, BERTH_ADMIN_TOKEN: adminToken, BERTH_PORT: new URL(apiUrl).port },
    "job-worker": backends,
    "host-agent": {
      BERTH_API_URL: apiUrl,
      BERTH_AGENT_DATA_DIR: dataDir,
      BERTH_AGENT_NAME: "chaos-host",
    },
  };
  // The host enrolls once. Later its state file has its credential.
  if (program === "host-agent" && !running["host-agent"]) {
    const { secret } = await request<{ secret: string }>("POST", "/v1/tokens", {
      name: "chaos",
      role: "enroll",
    });
    env["host-agent"]["BERTH_ENROLL_TOKEN"] = secret;
  }
  running[program] = await startMain(program, env[program], { root: checkout });
}

/**
 * Sends a request as the admin. Retries it while the API restarts, like other callers of the API.
 */
async function request<T>(method: string, target: string, body?: unknown): Promise<T> {
  return waitUntil(
    `${method} ${target} is answered`,
    async () => {
      const response = await fetch(apiUrl + target, {
        method,
        headers: { Authorization: `Bearer ${adminToken}`, "Content-Type": "application/json" },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        signal: AbortSignal.timeout(10_000),
      });
      if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
      return (await response.json()) as T;
    },
    { deadlineMs: 180_000, everyMs: 200 },
  );
}

async function waitSettled(replicas: number): Promise<void> {
  await waitUntil(
    `the service is settled at ${replicas} sets`,
    async () => {
      const { settled, counts } = await request<Service>("GET", "/v1/services/chaos");
      return settled && counts.ready === replicas;
    },
    { deadlineMs: settleDeadlineMs, everyMs: 100 },
  );
}

async function listSets(): Promise<BerthSet[]> {
  return (await request<{ items: BerthSet[] }>("GET", "/v1/sets?service=chaos&limit=500")).items;
}

/** Lists all containers of this test's host with ids and start times, which identify a run. */
async function listContainers(): Promise<{ name: string; id: string; startedAt: string }[]> {
  const { items } = await request<{ items: { id: string; name: string }[] }>("GET", "/v1/hosts");
  const host = items.find(({ name }) => name === "chaos-host");
  if (!host) throw new Error("the host is not enrolled");
  const listed = await docker.listContainers({
    all: true,
    filters: { label: [`berth.host=${host.id}`] },
  });
  return Promise.all(
    listed.map(async ({ Id }) => {
      const { Name, State } = await docker.getContainer(Id).inspect();
      return { name: Name.slice(1), id: Id, startedAt: State.StartedAt };
    }),
  );
}

/** Requests every set over HTTP repeatedly, and returns the failures. */
function startProbes(sets: readonly BerthSet[]): {
  stop(): Promise<{ requests: number; failures: string[] }>;
} {
  let requests = 0;
  const failures: string[] = [];
  const stopping = new AbortController();
  const probes = sets.map(async (set) => {
    while (!stopping.signal.aborted) {
      requests++;
      // The sets have a small share of the CPU, so on a busy machine an answer takes long. A set
      // that is down refuses the connection.
      await fetch(`http://${set.address}:8080/`, { signal: AbortSignal.timeout(30_000) })
        .then((response) => response.arrayBuffer())
        .catch((error: unknown) => failures.push(`${set.id}: ${String(error)}`));
      await delay(probeEveryMs);
    }
  });
  return {
    stop: async () => {
      stopping.abort();
      await Promise.all(probes);
      return { requests, failures };
    },
  };
}

async function readBookings(): Promise<{ booked: number; allocated: number }> {
  const sql = postgres(database.url, { max: 1 });
  try {
    const [row] = await sql<{ booked: number; allocated: number }[]>`
      select (select sum(cpu_millis) from sets where host_id is not null)::int as booked,
        (select sum(allocated_cpu_millis) from hosts)::int as allocated`;
    if (!row) throw new Error("an aggregate has one row");
    return row;
  } finally {
    await sql.end({ timeout: 5 });
  }
}
