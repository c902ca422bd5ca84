import { execFile } from "node:child_process";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import Docker from "dockerode";
import postgres from "postgres";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { Host } from "../../src/contracts/api/hosts.ts";
import type { BerthSet } from "../../src/contracts/api/sets.ts";
import type { Volume } from "../../src/contracts/api/volumes.ts";
import { baseImage, ensureBaseImage } from "../support/docker/docker.ts";
import { removeHost } from "../support/docker/docker-host.ts";
import { type BerthProcess, startBerth } from "../support/servers/berth-process.ts";
import { startMain } from "../support/servers/main-process.ts";
import {
  createTestDatabase,
  createTestRedis,
  type TestDatabase,
} from "../support/servers/test-services.ts";
import { waitUntil } from "../support/wait-until.ts";

const run = promisify(execFile);
const docker = new Docker();
const deadlineMs = 120_000;
const closing: (() => Promise<unknown>)[] = [];
let berth: BerthProcess;
let folder: string;
let database: TestDatabase;
let secondId: string;
let endSecond: () => Promise<unknown>;

beforeAll(async () => {
  await ensureBaseImage(docker);
  folder = await mkdtemp(path.join(tmpdir(), "berth-enrolled-again-"));
  closing.push(async () => {
    const mounts = path.join(folder, "agent", "volumes");
    for (const name of await readdir(mounts).catch(() => []))
      await run("umount", [path.join(mounts, name)]).catch(() => undefined); // not mounted
    const devices = await run("losetup", ["--list", "--noheadings", "--output", "NAME,BACK-FILE"]);
    for (const line of devices.stdout.split("\n")) {
      const [device, image] = line.trim().split(/\s+/);
      if (device && image?.startsWith(folder)) await run("losetup", ["--detach", device]);
    }
    await run("chattr", ["-R", "-i", folder]).catch(() => undefined);
    await rm(folder, { recursive: true, force: true });
  });
  const [created, redis] = await Promise.all([createTestDatabase(), createTestRedis()]);
  database = created;
  closing.push(() => Promise.all([database.drop(), redis.release()]));
  berth = await startBerth({
    DATABASE_URL: database.url,
    REDIS_URL: redis.url,
    BERTH_REDIS_PREFIX: redis.prefix,
    BERTH_AGENT_ENABLED: "false",
    BERTH_DATA_DIR: path.join(folder, "berth"),
  });
  closing.push(() => berth.end("SIGTERM"));
  await berth.request("PUT", "/v1/host-pools/default", {
    // Other load on this machine must not reject the sets.
    highWaterPercent: { cpuMillis: 1000, memoryBytes: 1000, volumeBytes: 1000, rootfsBytes: 100 },
  });
});
afterAll(async () => {
  for (const close of closing.toReversed()) await close();
});

it("a machine that is enrolled again ends the sets of its deleted host, and retains their volumes", async () => {
  const first = await startAgent("first");
  const oldId = String(first.ready["hostId"]);
  await berth.request("POST", "/v1/services", {
    name: "db",
    replicas: 1,
    template: {
      cpu: 0.05,
      memory: "32Mi",
      rootfs: "16Mi",
      volume: { size: "32Mi", mountPath: "/data" },
      containers: [
        {
          index: 0,
          name: "app",
          image: baseImage,
          options: {
            cpu: 100,
            memory: 100,
            command: ["/bin/busybox", "sleep", "100000"],
            stopTimeoutSeconds: 0,
          },
        },
      ],
    },
  });
  await waitUntil("the set runs", async () => (await listSets())[0]?.ready === true, {
    deadlineMs,
  });
  const oldSetId = (await listSets())[0]?.id;

  // The agent dies, and an operator deletes its host before the machine returns.
  await first.end("SIGKILL");
  await deleteHost(oldId);
  expect(await countContainers(oldId)).toBe(2);

  const second = await startAgent("second");
  const newId = String(second.ready["hostId"]);
  secondId = newId;
  endSecond = () => second.end("SIGKILL");
  expect(newId).not.toBe(oldId);
  await waitUntil(
    "the old containers are removed",
    async () => (await countContainers(oldId)) === 0,
    {
      deadlineMs,
    },
  );
  await waitUntil("the old volume can be restored", async () => (await listTrash()).length === 1, {
    deadlineMs,
  });
  expect(await listTrash()).toMatchObject([{ id: String(oldSetId).replace(/^set_/, "vol_") }]);
  await waitUntil(
    "the replacement runs",
    async () => {
      return (await listSets()).some(({ ready, id }) => ready && id !== oldSetId);
    },
    { deadlineMs },
  );
  expect(await countContainers(newId)).toBe(2);
});

it("a machine with a new id adopts the volumes of its deleted host by order of an operator", async () => {
  const volumes = (await listTrash()).length + 1; // that of the running set
  await endSecond();
  await deleteHost(secondId);
  const third = await startAgent("third", "d".repeat(32));
  const hostId = String(third.ready["hostId"]);
  const found = { hostId: secondId, volumes };
  await waitUntil(
    "the operator sees the volumes",
    async () => {
      const { capabilities } = await berth.request<Host>("GET", `/v1/hosts/${hostId}`);
      return JSON.stringify(capabilities?.otherHostVolumes) === JSON.stringify([found]);
    },
    { deadlineMs },
  );
  expect(await countContainers(secondId)).toBe(2);
  expect(await listTrash()).toEqual([]);
  const order = { deletedHostId: secondId, confirm: secondId };
  await berth.request("POST", `/v1/hosts/${hostId}/adopt-volumes`, order);
  await waitUntil(
    "its volumes can be restored",
    async () => (await listTrash()).length === volumes,
    {
      deadlineMs,
    },
  );
  expect(await countContainers(secondId)).toBe(0);
});

async function listTrash(): Promise<Volume[]> {
  return (await berth.request<{ items: Volume[] }>("GET", "/v1/volumes?state=trashed")).items;
}

/** Deletes a host whose agent has ended, with the identity on its machine. */
async function deleteHost(hostId: string): Promise<void> {
  await loseHost(hostId);
  await berth.request("DELETE", `/v1/hosts/${hostId}?confirm=${hostId}`);
  await rm(path.join(folder, "agent", "host-agent.json"));
}

async function startAgent(name: string, machineId = "c".repeat(32)) {
  const machineIdFile = path.join(folder, "machine-id");
  await writeFile(machineIdFile, `${machineId}\n`);
  const token = { name, role: "enroll" };
  const { secret } = await berth.request<{ secret: string }>("POST", "/v1/tokens", token);
  const agent = await startMain("host-agent", {
    BERTH_API_URL: berth.apiUrl,
    BERTH_ENROLL_TOKEN: secret,
    BERTH_AGENT_NAME: name,
    BERTH_AGENT_DATA_DIR: path.join(folder, "agent"),
    BERTH_AGENT_MACHINE_ID_FILE: machineIdFile,
  });
  closing.push(async () => {
    await agent.end("SIGKILL");
    await removeHost(docker, String(agent.ready["hostId"]));
  });
  return agent;
}

/** Marks a host as lost. Berth itself waits five minutes, because the fleet has no other host. */
async function loseHost(hostId: string): Promise<void> {
  const sql = postgres(database.url, { max: 1, onnotice: () => undefined });
  try {
    await sql`update hosts set state = 'lost', resync_required = true, lost_at = now(),
      lease_expires_at = now() - interval '1 second' where id = ${hostId}`;
  } finally {
    await sql.end();
  }
}

async function listSets(): Promise<BerthSet[]> {
  return (await berth.request<{ items: BerthSet[] }>("GET", "/v1/sets")).items;
}

async function countContainers(hostId: string): Promise<number> {
  const filters = { label: [`berth.host=${hostId}`] };
  return (await docker.listContainers({ all: true, filters })).length;
}
