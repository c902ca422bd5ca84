import { execFile } from "node:child_process";
import { mkdtemp } from "node:fs/promises";
import { promisify } from "node:util";
import Docker from "dockerode";
import { afterAll, beforeAll, expect, test } from "vitest";
import { dockerName } from "../../src/agent/adapters/docker/container-labels.ts";
import type { Host } from "../../src/contracts/hosts.ts";
import type { BerthSet } from "../../src/contracts/sets.ts";
import type { Volume } from "../../src/contracts/volumes.ts";
import { type BerthProcess, startBerth } from "../support/berth-process.ts";
import { baseImage, ensureBaseImage } from "../support/docker.ts";
import { execIn } from "../support/docker-exec.ts";
import { patientCommand } from "../support/local-set.ts";
import { waitUntil } from "../support/wait-until.ts";
import { makeVolumeGroup } from "./volume-group.ts";

/** A whole Berth on a real volume group, a real Docker and a kernel of its own, which is slow: nothing here is about time. */

const run = promisify(execFile);
const docker = new Docker();
const MiB = 2 ** 20;
const slow = { deadlineMs: 120_000 };
let berth: BerthProcess;

beforeAll(async () => {
  await makeVolumeGroup("berth", 512 * MiB);
  await ensureBaseImage(docker);
  berth = await startBerth({
    BERTH_DATA_DIR: await mkdtemp("/tmp/berth-"),
    BERTH_VOLUME_BACKEND: "lvm",
  });
  await berth.request("PUT", "/v1/host-pools/default", {
    overcommitPercent: { cpuMillis: 1_000, memoryBytes: 400 },
    highWaterPercent: { cpuMillis: 1_000, memoryBytes: 400, rootfsBytes: 100 },
  });
  await waitUntil(
    "the host has room for volumes",
    async () => {
      const [host] = (await berth.request<{ items: Host[] }>("GET", "/v1/hosts")).items;
      return host?.state === "ready" && host.allocatable.volumeBytes > 0 ? host : undefined;
    },
    slow,
  );
}, 180_000);
afterAll(() => berth.end("SIGTERM"));

const sets = async () =>
  (await berth.request<{ items: BerthSet[] }>("GET", "/v1/sets?service=db")).items;
const volumes = async () => (await berth.request<{ items: Volume[] }>("GET", "/v1/volumes")).items;
const inside = (set: BerthSet, command: string) =>
  execIn(docker, { setId: set.id, container: "app" }, command);
const startedAt = async (set: BerthSet) =>
  (await docker.getContainer(dockerName(set.id, "app")).inspect()).State.StartedAt;

async function createDb(replicas: number): Promise<void> {
  await berth.request("POST", "/v1/services", {
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
          options: { cpu: 100, memory: 100, command: patientCommand },
        },
      ],
    },
  });
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

test("a volume's whole life: full, grown under writes, agent killed, trashed, restored, purged", async () => {
  await createDb(2);
  const [first, second] = await untilReady(2);
  if (!first || !second) throw new Error("two sets are ready");
  const before = await startedAt(first);

  const said = await inside(first, "dd if=/dev/zero of=/data/filler bs=1M; rm /data/filler");
  expect(said).toContain("No space left on device");
  expect(
    await inside(second, "dd if=/dev/zero of=/data/some bs=1M count=8 && echo fine"),
  ).toContain("fine");

  await inside(first, "(while echo line >> /data/log; do sleep 0.05; done) > /dev/null 2>&1 &");
  await inside(first, "head -c 5000000 /dev/urandom > /data/precious; sync");
  const hash = await inside(first, "sha256sum /data/precious");
  await berth.request("POST", "/v1/services/db/resize", { volume: "128Mi" });
  await waitUntil(
    "the volume has grown in its container",
    async () => {
      const kilobytes = Number(await inside(first, "df -k /data | tail -n 1 | awk '{ print $2 }'"));
      return kilobytes > 100 * 1_024 ? true : undefined;
    },
    slow,
  );
  const linesAt = async () => Number(await inside(first, "wc -l < /data/log"));
  const lines = await linesAt();
  await waitUntil("writes go on", async () => ((await linesAt()) > lines ? true : undefined), slow);

  await berth.end("SIGKILL");
  await berth.startAgain();
  await untilReady(2);
  expect(await startedAt(first)).toBe(before);
  expect(await inside(first, "sha256sum /data/precious")).toBe(hash);

  await berth.request("DELETE", "/v1/services/db");
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
  await berth.request("POST", `/v1/volumes/${precious.id}/restore`);
  const [heir] = await untilReady(1);
  if (!heir) throw new Error("the heir is ready");
  expect(await inside(heir, "sha256sum /data/precious")).toBe(hash);

  await berth.request("DELETE", "/v1/services/db");
  await waitUntil(
    "everything is purged",
    async () => {
      const found = await volumes();
      for (const { id, state, purging } of found) {
        if (state !== "trashed" || purging) continue;
        await berth.request("POST", `/v1/volumes/${id}/purge`, { confirm: id });
      }
      return found.length === 0 ? true : undefined;
    },
    slow,
  );
  const { stdout } = await run("lvs", ["--noheadings", "-o", "lv_name", "berth"]);
  expect(stdout.trim()).toBe("");
}, 400_000);
