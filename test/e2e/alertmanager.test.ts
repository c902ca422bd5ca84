import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import Docker from "dockerode";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { Decision, Demand, Hook } from "../../src/contracts/api/autoscaling.ts";
import type { Service } from "../../src/contracts/api/services.ts";
import type { BerthSet } from "../../src/contracts/api/sets.ts";
import {
  type Alertmanager,
  alertmanagerConfig,
  startAlertmanager,
} from "../support/servers/alertmanager.ts";
import { type BerthProcess, startBerth } from "../support/servers/berth-process.ts";
import { baseImage } from "../support/docker/docker.ts";
import {
  createTestDatabase,
  createTestRedis,
  type TestDatabase,
  type TestRedis,
} from "../support/servers/test-services.ts";
import { waitUntil } from "../support/wait-until.ts";

/**
 * An alert end to end: the real Alertmanager with its stock webhook, and Berth as a user starts it.
 * Containers on the machine's Docker answer HTTP.
 */
const docker = new Docker();
const scaleDeadlineMs = 60_000;
const STABILIZATION_SECONDS = 2;

let berth: BerthProcess;
let database: TestDatabase;
let redis: TestRedis;
let dataDir: string;
const alertmanagers: Alertmanager[] = [];
const services: string[] = [];

beforeAll(async () => {
  [database, redis] = await Promise.all([createTestDatabase(), createTestRedis()]);
  dataDir = await mkdtemp(path.join(tmpdir(), "berth-e2e-"));
  berth = await startBerth({
    DATABASE_URL: database.url,
    REDIS_URL: redis.url,
    BERTH_REDIS_PREFIX: redis.prefix,
    BERTH_DATA_DIR: dataDir,
  });
  // The high-water marks must not reject sets because of other load on the test machine.
  await berth.request("PUT", "/v1/host-pools/default", {
    highWaterPercent: { cpuMillis: 1000, memoryBytes: 1000, rootfsBytes: 100 },
  });
});

afterAll(async () => {
  await Promise.all(alertmanagers.map((alertmanager) => alertmanager.stop()));
  for (const name of services) {
    await berth.request("DELETE", `/v1/services/${name}`);
    await waitUntil(`${name} is gone`, async () => (await listContainers(name)).length === 0, {
      deadlineMs: scaleDeadlineMs,
    });
  }
  await berth.end("SIGTERM");
  await rm(dataDir, { recursive: true, force: true });
  await Promise.all([database.drop(), redis.release()]);
});

it("Alertmanager's stock webhook scales a service out on Docker, and in after the alert's end", async () => {
  const menu = await createService("alerted-once");
  const [alertmanager] = await pointAlertmanagers(1, menu.hook, menu.token);
  await expectAnswers(menu.name, 1);

  const startedAtMs = performance.now();
  await alertmanager?.post([firing(menu.name)]);
  await expectAnswers(menu.name, 3);
  console.log(
    `alert posted to 3 sets answering: ${Math.round(performance.now() - startedAtMs)} ms`,
  );
  const [decision] = await listDecisions(menu.name);
  expect(decision).toMatchObject({ fromReplicas: 1, toReplicas: 3, acted: true });
  expect(decision?.because[0]).toMatch(
    /^alert CpuHigh \([0-9a-f]{8}…\) on hook web-alerts requests 3 since 20/,
  );

  await alertmanager?.post([over(menu.name)]);
  await expectAnswers(menu.name, 1);
  const [demand] = await listDemands(menu.name);
  expect(demand).toMatchObject({ state: "released" });
  const heldMs = Date.parse(demand?.releaseAt ?? "") - Date.parse(demand?.resolvedAt ?? "");
  expect(heldMs).toBe(STABILIZATION_SECONDS * 1_000);
  expect((await listDecisions(menu.name)).filter(({ acted }) => acted)).toHaveLength(2);
});

it("two Alertmanagers that both deliver, and a Berth that is killed in between, have one effect", async () => {
  const menu = await createService("alerted-twice");
  const pair = await pointAlertmanagers(2, menu.hook, menu.token);
  await expectAnswers(menu.name, 1);
  const containers = await listContainers(menu.name);

  await berth.end("SIGKILL");
  const alert = firing(menu.name);
  await Promise.all(pair.map((alertmanager) => alertmanager.post([alert])));
  await waitUntil(
    "both have tried to deliver",
    () => everyDelivery(pair, ({ failed }) => failed > 0),
    {
      deadlineMs: scaleDeadlineMs,
    },
  );
  expect((await listContainers(menu.name)).map(({ Id }) => Id)).toEqual(
    containers.map(({ Id }) => Id),
  );
  await berth.startAgain();
  await waitUntil("both have delivered", () => everyDelivery(pair, ({ sent }) => sent > 0), {
    deadlineMs: scaleDeadlineMs,
  });
  await expectAnswers(menu.name, 3);
  expect(await listDemands(menu.name)).toHaveLength(1);
  expect((await listDecisions(menu.name)).filter(({ acted }) => acted)).toHaveLength(1);

  const before = await Promise.all(pair.map((alertmanager) => alertmanager.countDeliveries()));
  const end = over(menu.name);
  await Promise.all(pair.map((alertmanager) => alertmanager.post([end])));
  await waitUntil(
    "both have delivered the end",
    () => everyDelivery(pair, ({ sent }, index) => sent > (before[index]?.sent ?? 0)),
    { deadlineMs: scaleDeadlineMs },
  );
  await expectAnswers(menu.name, 1);
  expect((await listDemands(menu.name)).map(({ state }) => state)).toEqual(["released"]);
});

/**
 * A small web server with a health check, one set of it, and a hook that wants two more while
 * CpuHigh fires.
 */
async function createService(name: string) {
  const command = ["/bin/sh", "-c", "hostname >/www/index.html; exec httpd -f -p 8080 -h /www"];
  const health = { http: { port: 8080, path: "/" }, intervalSeconds: 1 };
  await berth.request("POST", "/v1/services", {
    name,
    replicas: 1,
    template: {
      cpu: 0.1,
      memory: "64Mi",
      rootfs: "64Mi",
      containers: [
        {
          index: 0,
          name: "web",
          image: baseImage,
          options: { cpu: 100, memory: 100, command, health, stopTimeoutSeconds: 1 },
        },
      ],
    },
    autoscale: { min: 1, max: 5, scaleIn: { step: 2, everySeconds: 1 } },
  });
  services.push(name);
  const { hook, token } = await berth.request<{ hook: Hook; token: string }>(
    "POST",
    `/v1/services/${name}/hooks`,
    {
      name: "web-alerts",
      rules: [{ match: { alertname: "CpuHigh" }, want: { step: 2 } }],
      stabilizationSeconds: STABILIZATION_SECONDS,
    },
  );
  return { name, hook, token };
}

async function pointAlertmanagers(
  count: number,
  hook: Hook,
  token: string,
): Promise<Alertmanager[]> {
  const config = await alertmanagerConfig(berth.apiUrl + hook.paths.alertmanager, token);
  const started = await Promise.all(Array.from({ length: count }, () => startAlertmanager(config)));
  alertmanagers.push(...started);
  return started;
}

function firing(app: string) {
  const startsAt = new Date().toISOString();
  // Prometheus sends an end too, and extends it while the alert fires
  const endsAt = new Date(Date.now() + 600_000).toISOString();
  return { labels: { alertname: "CpuHigh", app }, startsAt, endsAt };
}

function over(app: string) {
  return { labels: { alertname: "CpuHigh", app }, endsAt: new Date().toISOString() };
}

async function everyDelivery(
  pair: readonly Alertmanager[],
  isSo: (counts: { sent: number; failed: number }, index: number) => boolean,
): Promise<boolean> {
  const counts = await Promise.all(pair.map((alertmanager) => alertmanager.countDeliveries()));
  return counts.every(isSo);
}

/** Waits until exactly this number of sets is desired, runs on Docker, and answers HTTP. */
async function expectAnswers(name: string, count: number): Promise<void> {
  await waitUntil(
    `${name} has ${count} sets that answer`,
    async () => {
      const service = await berth.request<Service>("GET", `/v1/services/${name}`);
      const { items } = await berth.request<{ items: BerthSet[] }>(
        "GET",
        `/v1/sets?service=${name}`,
      );
      const containers = await listContainers(name);
      if (service.desiredReplicas !== count || !service.settled || items.length !== count) {
        const seen = { desired: service.desiredReplicas, containers: containers.length, items };
        throw new Error(JSON.stringify(seen)); // the cause of a failure
      }
      const answers = await Promise.all(items.map((set) => fetch(`http://${set.address}:8080/`)));
      // A business container and an infra container of each set.
      return containers.length === 2 * count && answers.every((answer) => answer.ok);
    },
    { deadlineMs: scaleDeadlineMs, everyMs: 50 },
  );
}

async function listContainers(name: string): Promise<Docker.ContainerInfo[]> {
  return docker.listContainers({ all: true, filters: { label: [`berth.service=${name}`] } });
}

async function listDemands(name: string): Promise<Demand[]> {
  const path = `/v1/services/${name}/demands`;
  return (await berth.request<{ items: Demand[] }>("GET", path)).items;
}

async function listDecisions(name: string): Promise<Decision[]> {
  const path = `/v1/decisions?service=${name}`;
  return (await berth.request<{ items: Decision[] }>("GET", path)).items;
}
