import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { Host } from "../../src/contracts/api/hosts.ts";
import type { Service, ServiceChange } from "../../src/contracts/api/services.ts";
import type { BerthSet } from "../../src/contracts/api/sets.ts";
import { baseImage, ensureBaseImage } from "../support/docker/docker.ts";
import { startPrivateDocker } from "../support/docker/private-docker.ts";
import { type BerthProcess, startBerth } from "../support/servers/berth-process.ts";
import { startMain } from "../support/servers/main-process.ts";
import { createTestDatabase, createTestRedis } from "../support/servers/test-services.ts";
import { waitUntil } from "../support/wait-until.ts";

/**
 * Two hosts with a Docker daemon each. One is drained while it has a service that serves, a set of
 * that service whose image is missing, and a service that crash-loops.
 */
const deadlineMs = 120_000;
const closing: (() => Promise<unknown>)[] = [];
let berth: BerthProcess;

beforeAll(async () => {
  const [database, redis] = await Promise.all([createTestDatabase(), createTestRedis()]);
  closing.push(() => Promise.all([database.drop(), redis.release()]));
  berth = await startBerth({
    DATABASE_URL: database.url,
    REDIS_URL: redis.url,
    BERTH_REDIS_PREFIX: redis.prefix,
    BERTH_AGENT_NAME: "old-host",
    BERTH_VOLUME_BACKEND: "none",
    BERTH_DATA_DIR: await createFolder(),
  });
  closing.push(() => berth.end("SIGTERM"));
  await berth.request("PUT", "/v1/host-pools/default", {
    // Other load on this machine must not reject the sets.
    highWaterPercent: { cpuMillis: 1000, memoryBytes: 1000, rootfsBytes: 100 },
  });
});

afterAll(async () => {
  for (const close of closing.toReversed()) await close();
});

it("a drain ends despite sets that are never ready, and keeps a service ready", async () => {
  await berth.request("POST", "/v1/services", serviceBody("web", baseImage, server));
  await berth.request("POST", "/v1/services", serviceBody("crashes", baseImage, ["/bin/false"]));
  await waitUntil("the healthy sets are ready", async () => (await countReady("web")) === 2, {
    deadlineMs,
  });
  await addSetWithoutImage();
  await waitUntil("a set reports the missing image", async () =>
    (await listSets()).some(({ reason }) => /missing-image/.test(reason?.text ?? "")),
  );

  await startSecondHost();
  const readyCounts = watchReady("web");
  await berth.request("POST", `/v1/hosts/${(await getHost("old-host")).id}/drain`);
  await waitUntil(
    "the host is empty",
    async () => {
      if ((await getHost("old-host")).sets === 0) return true;
      throw new Error(JSON.stringify(await describeSets()));
    },
    { deadlineMs, everyMs: 200 },
  );

  const { least, reads } = await readyCounts.stop();
  expect(reads).toBeGreaterThan(1);
  expect(least).toBeGreaterThanOrEqual(2);
  const sets = await listSets();
  expect(sets).toHaveLength(5);
  expect(sets.filter(({ ready, service }) => ready && service === "web")).toHaveLength(2);
  for (const { host } of sets) expect([undefined, "new-host"]).toContain(host?.name);
});

const server = ["/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/etc"];

function serviceBody(name: string, image: string, command: readonly string[]) {
  const health = { tcp: { port: 8080 } };
  const options = { cpu: 100, memory: 100, command, health, stopTimeoutSeconds: 0 };
  return {
    name,
    replicas: 2,
    template: {
      cpu: 0.05,
      memory: "32Mi",
      rootfs: "16Mi",
      containers: [{ index: 0, name: "app", image, options }],
    },
  };
}

/** The service gets a third set, whose image exists nowhere. */
async function addSetWithoutImage(): Promise<void> {
  const { template } = serviceBody("web", "localhost:1/missing-image:1", server);
  const { generation } = await berth.request<Service>("GET", "/v1/services/web");
  const patch = { template, adopt: "new-sets" };
  const { service } = await berth.request<ServiceChange>(
    "PATCH",
    "/v1/services/web",
    patch,
    generation,
  );
  expect(service.revision).toBe(2);
  await berth.request("POST", "/v1/services/web/scale", { replicas: 3 });
}

async function createFolder(): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), "berth-drain-"));
  closing.push(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

async function startSecondHost(): Promise<void> {
  const daemon = await startPrivateDocker();
  closing.push(() => daemon.close());
  await ensureBaseImage(daemon.docker);
  const token = { name: "new-host", role: "enroll" };
  const { secret } = await berth.request<{ secret: string }>("POST", "/v1/tokens", token);
  const agent = await startMain("host-agent", {
    BERTH_API_URL: berth.apiUrl,
    BERTH_ENROLL_TOKEN: secret,
    BERTH_AGENT_NAME: "new-host",
    BERTH_AGENT_DATA_DIR: await createFolder(),
    BERTH_DOCKER_SOCKET: daemon.socketPath,
    BERTH_VOLUME_BACKEND: "none",
  });
  closing.push(() => agent.end("SIGTERM"));
  await waitUntil("the second host is ready", async () => {
    const { state } = await getHost("new-host");
    return state === "ready";
  });
}

async function getHost(name: string): Promise<Host> {
  const { items } = await berth.request<{ items: Host[] }>("GET", "/v1/hosts");
  const host = items.find((item) => item.name === name);
  if (!host) throw new Error(`${name} is not enrolled`);
  return host;
}

async function listSets(): Promise<BerthSet[]> {
  return (await berth.request<{ items: BerthSet[] }>("GET", "/v1/sets")).items;
}

/** The sets as far as a drain depends on them. */
async function describeSets(): Promise<object[]> {
  return (await listSets()).map(({ service, host, state, ready, reason, operation }) => ({
    service,
    host: host?.name,
    state,
    ready,
    reason: reason?.text,
    operation,
  }));
}

async function countReady(service: string): Promise<number> {
  const { counts } = await berth.request<Service>("GET", `/v1/services/${service}`);
  return counts.ready;
}

/** Reads the ready sets of a service until it is stopped. Returns the smallest count. */
function watchReady(service: string): { stop(): Promise<{ least: number; reads: number }> } {
  const stopping = new AbortController();
  const counts: number[] = [];
  const reading = (async () => {
    while (!stopping.signal.aborted) {
      counts.push(await countReady(service));
      await delay(100);
    }
  })();
  return {
    stop: async () => {
      stopping.abort();
      await reading;
      return { least: Math.min(...counts), reads: counts.length };
    },
  };
}
