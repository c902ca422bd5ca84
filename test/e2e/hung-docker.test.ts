import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { Host } from "../../src/contracts/api/hosts.ts";
import type { Service } from "../../src/contracts/api/services.ts";
import type { BerthSet, SetExplanation } from "../../src/contracts/api/sets.ts";
import { type BerthProcess, startBerth } from "../support/servers/berth-process.ts";
import { baseImage, ensureBaseImage } from "../support/docker/docker.ts";
import { type PrivateDocker, startPrivateDocker } from "../support/docker/private-docker.ts";
import { createTestDatabase, createTestRedis } from "../support/servers/test-services.ts";
import { waitUntil } from "../support/wait-until.ts";

/**
 * Berth as a user starts it, on a Docker daemon of this test's own. SIGSTOP makes the daemon hang,
 * and its containers keep running.
 */
const settleDeadlineMs = 60_000;
/** One ping just before the daemon hung, two without an answer, and a margin for a busy machine. */
const noticeMsMax = 8_000;
const closing: (() => Promise<unknown>)[] = [];
let daemon: PrivateDocker;
let berth: BerthProcess;

beforeAll(async () => {
  daemon = await startPrivateDocker();
  closing.push(() => daemon.close());
  await ensureBaseImage(daemon.docker);
  const [database, redis] = await Promise.all([createTestDatabase(), createTestRedis()]);
  closing.push(() => Promise.all([database.drop(), redis.release()]));
  const dataDir = await mkdtemp(path.join(tmpdir(), "berth-hung-"));
  closing.push(() => rm(dataDir, { recursive: true, force: true }));
  berth = await startBerth({
    DATABASE_URL: database.url,
    REDIS_URL: redis.url,
    BERTH_REDIS_PREFIX: redis.prefix,
    BERTH_DATA_DIR: dataDir,
    BERTH_DOCKER_SOCKET: daemon.socketPath,
    BERTH_VOLUME_BACKEND: "none",
  });
  closing.push(() => berth.end("SIGTERM"));
  await berth.request("PUT", "/v1/host-pools/default", {
    // The high-water marks must not reject sets because of other load on the test machine.
    highWaterPercent: { cpuMillis: 1000, memoryBytes: 1000, rootfsBytes: 100 },
  });
});

afterAll(async () => {
  daemon.signal("SIGCONT");
  for (const close of closing.toReversed()) await close();
});

it("a host whose Docker daemon hangs becomes unhealthy within seconds, takes no new sets, and recovers", async () => {
  await berth.request("POST", "/v1/services", service);
  await settled(1);
  const [before] = await listSets();
  const address = before?.address ?? "";

  daemon.signal("SIGSTOP");
  const hungAtMs = performance.now();
  const host = await hostBecomes("unhealthy", noticeMsMax);
  console.log(
    `a hung daemon is the host's state after ${Math.round(performance.now() - hungAtMs)} ms`,
  );
  expect(host.reason).toMatchObject({ code: "docker-unreachable" });
  expect(host.reason?.text).toMatch(/^no answer since 2/);
  const [during] = await listSets();
  expect(during).toMatchObject({ state: "running", ready: false });
  expect(during?.reason).toMatchObject({ code: "docker-unreachable" });
  expect((await fetch(`http://${address}:8080/`)).status).toBeGreaterThan(0);

  await berth.request("POST", "/v1/services/hung/scale", { replicas: 2 });
  const waiting = await waitUntil("the new set waits with a reason", async () =>
    (await listSets()).find(({ state, reason }) => state === "pending" && reason !== null),
  );
  const explained = await berth.request<SetExplanation>("GET", `/v1/sets/${waiting.id}/explain`);
  expect(JSON.stringify(explained)).toContain("unhealthy");
  // Reports continue: the usage of the machine stays fresh.
  const reportedAt = (await getHost()).reported?.at;
  await waitUntil("the host reports", async () => (await getHost()).reported?.at !== reportedAt, {
    deadlineMs: 120_000,
  });

  daemon.signal("SIGCONT");
  await hostBecomes("ready", noticeMsMax);
  await settled(2);
  const after = await listSets();
  expect(after.find(({ id }) => id === before?.id)).toMatchObject({
    ready: true,
    reason: null,
    containers: [{ restarts: 0, dockerId: before?.containers[0]?.dockerId }],
  });
});

it("sets start again after a killed daemon has restarted", async () => {
  await settled(2);
  await daemon.kill();
  await hostBecomes("unhealthy", noticeMsMax);
  await daemon.start();
  await hostBecomes("ready", noticeMsMax);
  await settled(2);
  expect((await listSets()).map(({ state, ready }) => [state, ready])).toEqual([
    ["running", true],
    ["running", true],
  ]);
});

const service = {
  name: "hung",
  replicas: 1,
  template: {
    cpu: 0.05,
    memory: "32Mi",
    rootfs: "16Mi",
    containers: [
      {
        index: 0,
        name: "app",
        image: baseImage,
        options: {
          cpu: 100,
          memory: 100,
          command: ["/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/etc"],
          stopTimeoutSeconds: 0,
        },
      },
    ],
  },
};

async function getHost(): Promise<Host> {
  const { items } = await berth.request<{ items: Host[] }>("GET", "/v1/hosts");
  const [host] = items;
  if (!host) throw new Error("no host is enrolled");
  return host;
}

async function hostBecomes(state: Host["state"], deadlineMs: number): Promise<Host> {
  return waitUntil(
    `the host is ${state}`,
    async () => {
      const host = await getHost();
      return host.state === state && host;
    },
    { deadlineMs },
  );
}

async function listSets(): Promise<BerthSet[]> {
  return (await berth.request<{ items: BerthSet[] }>("GET", "/v1/sets?service=hung")).items;
}

async function settled(replicas: number): Promise<void> {
  await waitUntil(
    `${replicas} sets are ready`,
    async () => {
      const { settled: isSettled, counts } = await berth.request<Service>(
        "GET",
        "/v1/services/hung",
      );
      return isSettled && counts.ready === replicas;
    },
    { deadlineMs: settleDeadlineMs, everyMs: 100 },
  );
}
