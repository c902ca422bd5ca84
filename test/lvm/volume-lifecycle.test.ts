import { type ChildProcess, execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdtemp } from "node:fs/promises";
import { promisify } from "node:util";
import Docker from "dockerode";
import { afterAll, beforeAll, expect, test } from "vitest";
import { dockerName } from "../../src/host-adapters/docker/container-labels.ts";
import type { Host } from "../../src/contracts/api/hosts.ts";
import type { BerthSet } from "../../src/contracts/api/sets.ts";
import type { Volume } from "../../src/contracts/api/volumes.ts";
import { ADMIN_TOKEN, endChild, readyLine, startMain } from "../bench/main-processes.ts";
import { baseImage, ensureBaseImage } from "../support/docker/docker.ts";
import { execIn } from "../support/docker/docker-exec.ts";
import { type PostgresServer, startPostgres } from "../support/servers/postgres-server.ts";
import { waitUntil } from "../support/wait-until.ts";
import { makeVolumeGroup } from "./volume-group.ts";

/**
 * Berth as a whole on a real volume group and a real Docker, in a kernel of its own. That kernel is
 * slow, so no test here measures time.
 */

const run = promisify(execFile);
const docker = new Docker();
const MiB = 2 ** 20;
/** A pause between probes, so that the agent gets time on a slow CPU. */
const slow = { deadlineMs: 600_000, everyMs: 500 };
const port = 7_460;
/** Appends indefinitely, even while there is no space. */
const writer = "trap 'exit 0' TERM; while :; do echo line >> /data/log; sleep 0.1; done";
let postgres: PostgresServer;
let dataDir: string;
let berth: ChildProcess;
/**
 * Ends the servers that the set-up has started, in reverse order. They end even if the set-up
 * fails, so that its own error is reported.
 */
const ends: (() => Promise<void>)[] = [];

/**
 * Starts the build as one process. PGlite (WebAssembly) does not run on this kernel, so it uses a
 * real Postgres.
 */
async function startBerth(): Promise<void> {
  berth = startMain("all-in-one", {
    DATABASE_URL: postgres.url,
    BERTH_DATA_DIR: dataDir,
    BERTH_VOLUME_BACKEND: "lvm",
    BERTH_PORT: String(port),
    BERTH_ADMIN_TOKEN: ADMIN_TOKEN,
    BERTH_LOG_LEVEL: "warn",
    BERTH_READY_JSON: "true",
  });
  await readyLine(berth, undefined, slow.deadlineMs);
}

/**
 * Calls the API. Until the deadline, it repeats a call that the slow host answers with 503 or does
 * not answer. The first call may then still run.
 */
async function request<T>(method: string, path: string, body?: unknown): Promise<T> {
  const idempotencyKey = randomUUID();
  const endsAtMs = performance.now() + slow.deadlineMs;
  for (;;) {
    const response = await call(method, path, body, idempotencyKey).catch(
      (error: unknown) => error,
    );
    const isLast = performance.now() >= endsAtMs;
    if (!(response instanceof Response)) {
      if (isLast) throw response;
      continue;
    }
    const text = await response.text();
    const isUndecided = response.status === 503 || text.includes("idempotency-in-progress");
    if (isUndecided && !isLast) continue;
    if (!response.ok) throw new Error(`${method} ${path} answered ${response.status}: ${text}`);
    return (text === "" ? undefined : JSON.parse(text)) as T;
  }
}

function call(method: string, path: string, body: unknown, key: string): Promise<Response> {
  const headers = {
    Authorization: `Bearer ${ADMIN_TOKEN}`,
    "Content-Type": "application/json",
    "Idempotency-Key": key,
  };
  return fetch(`http://127.0.0.1:${port}${path}`, {
    method,
    headers,
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    signal: AbortSignal.timeout(30_000),
  });
}

beforeAll(async () => {
  await makeVolumeGroup("berth", 512 * MiB);
  await ensureBaseImage(docker);
  postgres = await startPostgres();
  ends.push(() => postgres.stop());
  dataDir = await mkdtemp("/tmp/berth-");
  await startBerth();
  ends.push(() => endChild(berth));
  await request("PUT", "/v1/host-pools/default", {
    overcommitPercent: { cpuMillis: 1_000, memoryBytes: 400 },
    highWaterPercent: { cpuMillis: 1_000, memoryBytes: 400, rootfsBytes: 100 },
  });
  await waitUntil(
    "the host has capacity for volumes",
    async () => {
      const [host] = (await request<{ items: Host[] }>("GET", "/v1/hosts")).items;
      return host?.state === "ready" && host.allocatable.volumeBytes > 0 ? host : undefined;
    },
    slow,
  );
}, 1_000_000);
afterAll(async () => {
  for (const end of ends.toReversed()) await end();
});

const sets = async () => (await request<{ items: BerthSet[] }>("GET", "/v1/sets?service=db")).items;
const volumes = async () => (await request<{ items: Volume[] }>("GET", "/v1/volumes")).items;
const inside = (set: BerthSet, command: string) =>
  execIn(docker, { setId: set.id, container: "app" }, command);
const startedAt = async (set: BerthSet) =>
  (await docker.getContainer(dockerName(set.id, "app")).inspect()).State.StartedAt;

async function createDb(replicas: number): Promise<void> {
  await request("POST", "/v1/services", {
    name: "db",
    replicas,
    template: {
      cpu: 0.5,
      memory: "64Mi",
      rootfs: "32Mi",
      volume: { size: "64Mi", mountPath: "/data" },
      containers: [
        {
          index: 0,
          name: "app",
          image: baseImage,
          options: { cpu: 100, memory: 100, command: ["/bin/sh", "-c", writer] },
        },
      ],
    },
  });
}

/** Deletes the service, and waits until its name is free again. */
async function deleteDb(): Promise<void> {
  await request("DELETE", "/v1/services/db");
  await waitUntil(
    "the service is deleted",
    async () => {
      const { items } = await request<{ items: unknown[] }>("GET", "/v1/services");
      return items.length === 0 ? true : undefined;
    },
    slow,
  );
}

async function untilReady(count: number): Promise<BerthSet[]> {
  return waitUntil(
    `${count} sets are ready`,
    async () => {
      const found = await sets();
      return found.length === count && found.every(({ ready }) => ready) ? found : undefined;
    },
    slow,
  );
}

test("a volume survives a full disk, growth, a killed agent, the trash and a restore, until its purge", async () => {
  await createDb(2);
  const [first, second] = await untilReady(2);
  if (!first || !second) throw new Error("two sets are ready");
  const before = await startedAt(first);

  const said = await inside(first, "dd if=/dev/zero of=/data/filler bs=1M; rm /data/filler");
  expect(said).toContain("No space left on device");
  expect(
    await inside(second, "dd if=/dev/zero of=/data/some bs=1M count=8 && echo fine"),
  ).toContain("fine");

  await inside(first, "head -c 5000000 /dev/urandom > /data/precious; sync");
  const hash = await inside(first, "sha256sum /data/precious");
  await request("POST", "/v1/services/db/resize", { volume: "128Mi" });
  await waitUntil(
    "the volume has grown in its container",
    async () => {
      const kilobytes = Number(
        await inside(first, "df -Pk /data | tail -n 1 | awk '{ print $2 }'"),
      );
      return kilobytes > 100 * 1_024 ? true : undefined;
    },
    slow,
  );
  const linesAt = async () => Number(await inside(first, "wc -l < /data/log"));
  const lines = await linesAt();
  await waitUntil("writes go on", async () => ((await linesAt()) > lines ? true : undefined), slow);

  berth.kill("SIGKILL");
  await once(berth, "exit");
  await startBerth();
  await untilReady(2);
  expect(await startedAt(first)).toBe(before);
  expect(await inside(first, "sha256sum /data/precious")).toBe(hash);

  await deleteDb();
  const trash = await waitUntil(
    "both volumes are in the trash",
    async () => {
      const found = await volumes();
      return found.length === 2 && found.every(({ state }) => state === "trashed")
        ? found
        : undefined;
    },
    slow,
  );
  const precious = trash.find(({ setId }) => setId === first.id);
  if (!precious) throw new Error("the volume of the first set is in the trash");
  await createDb(0);
  await request("POST", `/v1/volumes/${precious.id}/restore`);
  const [heir] = await untilReady(1);
  if (!heir) throw new Error("the heir is ready");
  expect(await inside(heir, "sha256sum /data/precious")).toBe(hash);

  await deleteDb();
  await waitUntil(
    "everything is purged",
    async () => {
      const found = await volumes();
      for (const { id, state, purging } of found) {
        if (state !== "trashed" || purging) continue;
        await request("POST", `/v1/volumes/${id}/purge`, { confirm: id });
      }
      return found.length === 0 ? true : undefined;
    },
    slow,
  );
  const { stdout } = await run("lvs", ["--noheadings", "-o", "lv_name", "berth"]);
  expect(stdout.trim()).toBe("");
}, 1_800_000);
