import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import Docker from "dockerode";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { Registry } from "../../src/contracts/api/registries.ts";
import type { BerthSet } from "../../src/contracts/api/sets.ts";
import { baseImage, ensureBaseImage } from "../support/docker/docker.ts";
import { removeHost } from "../support/docker/docker-host.ts";
import { requestJson } from "../support/servers/berth-process.ts";
import {
  type ImageRegistry,
  registryLogins,
  startImageRegistry,
} from "../support/servers/image-registry.ts";
import { type MainProcess, startMain } from "../support/servers/main-process.ts";
import {
  createTestDatabase,
  createTestRedis,
  type TestDatabase,
} from "../support/servers/test-services.ts";
import { waitUntil } from "../support/wait-until.ts";

/** Berth as a user starts it, with a registry that refuses anonymous pulls. */
const docker = new Docker();
const adminToken = "brt_an-admin-of-the-registry-test";
const deadlineMs = 90_000;
const { first, second } = registryLogins;
const closing: (() => Promise<unknown>)[] = [];
let berth: MainProcess;
let database: TestDatabase;
let dataDir: string;
let registry: ImageRegistry;
let image: string;

beforeAll(async () => {
  await ensureBaseImage(docker);
  registry = await startImageRegistry(first);
  closing.push(() => registry.close());
  const repo = `${registry.address}/team/private`;
  image = `${repo}:1`;
  await docker.getImage(baseImage).tag({ repo, tag: "1" });
  await registry.take(docker, image);
  const [created, redis] = await Promise.all([createTestDatabase(), createTestRedis()]);
  database = created;
  closing.push(() => Promise.all([database.drop(), redis.release()]));
  dataDir = await mkdtemp(path.join(tmpdir(), "berth-registry-test-"));
  closing.push(() => rm(dataDir, { recursive: true, force: true }));
  berth = await startMain("all-in-one", {
    DATABASE_URL: database.url,
    REDIS_URL: redis.url,
    BERTH_REDIS_PREFIX: redis.prefix,
    BERTH_DATA_DIR: dataDir,
    BERTH_PORT: "0",
    BERTH_ADMIN_TOKEN: adminToken,
    BERTH_VOLUME_BACKEND: "none",
    BERTH_LOG_LEVEL: "debug",
  });
  closing.push(() => removeHost(docker, String(berth.ready["hostId"])));
  closing.push(() =>
    docker
      .getImage(image)
      .remove({ force: true })
      .catch(() => undefined),
  );
  closing.push(() => berth.end("SIGTERM"));
  await send("PUT", "/v1/host-pools/default", {
    // Other load on this machine must not reject the sets.
    highWaterPercent: { cpuMillis: 1000, memoryBytes: 1000, rootfsBytes: 100 },
  });
});
afterAll(async () => {
  for (const close of closing.toReversed()) await close();
});

const send = <T>(method: string, target: string, body?: unknown): Promise<T> =>
  requestJson<T>(String(berth.ready["apiUrl"]) + target, method, adminToken, {
    body,
    generation: undefined,
  });
const listSets = async () => (await send<{ items: BerthSet[] }>("GET", "/v1/sets")).items;
const login = ({ username, password }: { username: string; password: string }) =>
  send<Registry>("PUT", `/v1/registries/${registry.address}`, { username, password });
const findReason = (text: string) =>
  waitUntil(
    `a set states: ${text}`,
    async () => (await listSets()).find(({ reason }) => reason?.text.includes(text)),
    { deadlineMs },
  );
const runs = (replicas: number) =>
  waitUntil(
    `${replicas} sets run`,
    async () => {
      const running = (await listSets()).filter(({ state }) => state === "running");
      return running.length === replicas && running;
    },
    { deadlineMs },
  );

it("pulls a private image after the login, and uses a changed password without a restart", async () => {
  await send("POST", "/v1/services", {
    name: "private",
    replicas: 1,
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
            command: ["/bin/busybox", "sleep", "1000000"],
            stopTimeoutSeconds: 0,
          },
        },
      ],
    },
  });
  const refused = await findReason(`No credential is stored for registry ${registry.address}`);
  expect(refused.reason?.text).toContain(`berth registry login ${registry.address}`);
  await login(first);
  const [before] = await runs(1);
  expect(before?.containers[0]?.dockerId).toBeTruthy();

  await registry.setLogin(second);
  await docker.getImage(image).remove({ force: true });
  await send("POST", "/v1/services/private/scale", { replicas: 2 });
  await findReason(`Registry ${registry.address} refuses the stored credential`);
  await login(second);
  const after = await runs(2);
  // Neither the login nor the pull has touched the running set.
  const same = after.find(({ id }) => id === before?.id);
  expect(same?.generation).toBe(before?.generation);
  expect(same?.containers).toEqual(before?.containers);
});

it("writes no password to a log, an event, a report or a file", async () => {
  const events = await send("GET", "/v1/events?limit=500");
  const answers = [events, await listSets(), await send("GET", "/v1/registries")];
  const files = await readdir(dataDir, { recursive: true, withFileTypes: true });
  const contents = await Promise.all(
    files
      .filter((file) => file.isFile())
      .map((file) => readFile(path.join(file.parentPath, file.name), "latin1")),
  );
  expect(berth.logLines().length).toBeGreaterThan(20);
  expect(contents.join("\n")).toContain(image); // the state of the agent is among the files
  const texts = [
    JSON.stringify(answers),
    JSON.stringify(berth.logLines()),
    berth.errorOutput(),
    ...contents,
  ].join("\n");
  expect(texts).toContain("registry-stored");
  for (const { password } of [first, second]) {
    for (const form of [password, Buffer.from(password).toString("base64")])
      expect(texts).not.toContain(form);
  }
});
