import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readFile, rmdir, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import Docker from "dockerode";
import { afterEach, beforeEach, expect, it } from "vitest";
import { createSetCgroups } from "../../src/host-adapters/cgroups/create-cgroups.ts";
import type { SetCgroups } from "../../src/host-adapters/cgroups/set-cgroups.ts";
import {
  createSystemdCgroups,
  sliceProperties,
} from "../../src/host-adapters/cgroups/systemd-cgroups.ts";
import { setLimits } from "../../src/agent/model/set-limits.ts";
import { newId } from "../../src/lib/ids.ts";
import { leftCgroups, removeHost } from "../support/docker/docker-host.ts";

const docker = new Docker();
const root = "/sys/fs/cgroup";
const { signal } = new AbortController();
const setId = newId("set");
let hostId: string;
let version: 1 | 2;
let cgroups: SetCgroups;

beforeEach(async () => {
  hostId = newId("host");
  version = (await docker.info()).CgroupVersion === "2" ? 2 : 1;
  cgroups = createSetCgroups({ hostId, root, version, driver: "cgroupfs" });
});
afterEach(() => removeHost(docker, hostId));

function pathIn(controller: string): string {
  return `${root}${version === 1 ? `/${controller}` : ""}${cgroups.parentOf(setId)}`;
}

async function limits(): Promise<{ quotaUs: string; memoryBytes: string }> {
  const read = async (path: string) => (await readFile(path, "utf8")).trim();
  return version === 1
    ? {
        quotaUs: await read(`${pathIn("cpu")}/cpu.cfs_quota_us`),
        memoryBytes: await read(`${pathIn("memory")}/memory.limit_in_bytes`),
      }
    : {
        quotaUs: (await read(`${pathIn("cpu")}/cpu.max`)).split(" ")[0] ?? "",
        memoryBytes: await read(`${pathIn("memory")}/memory.max`),
      };
}

it("a set's cgroup is created with its limits, which rise and fall later", async () => {
  for (const [cpuMillis, mebibytes] of [
    [1_500, 64],
    [4_000, 512],
    [250, 16],
    [250, 16],
  ] as const) {
    await cgroups.ensure(setId, setLimits({ cpuMillis, memoryBytes: mebibytes * 2 ** 20 }), signal);
    expect(await limits()).toEqual({
      quotaUs: String(cpuMillis * 100),
      memoryBytes: String(mebibytes * 2 ** 20),
    });
  }
  expect(await cgroups.list()).toEqual([setId]);
});

it("a removal waits for the last process, deletes the cgroup in all hierarchies, and may be repeated", async () => {
  await cgroups.ensure(setId, setLimits({ cpuMillis: 1_000, memoryBytes: 64 * 2 ** 20 }), signal);
  const sleeper = spawn("sleep", ["1000"]);
  const exited = once(sleeper, "exit");
  await writeFile(`${pathIn("memory")}/cgroup.procs`, String(sleeper.pid));
  let isRemoved = false;
  const removal = cgroups.remove(setId, signal).then(() => {
    isRemoved = true;
  });
  await delay(100); // long enough for a removal that does not wait
  expect(isRemoved).toBe(false);
  sleeper.kill("SIGKILL");
  await exited;
  await removal;
  expect(await leftCgroups(hostId)).toEqual([]);
  await cgroups.remove(setId, signal);
  expect(await cgroups.list()).toEqual([]);
});

it("a set with a folder in any hierarchy is listed, and a foreign folder is not", async () => {
  await cgroups.ensure(setId, setLimits({ cpuMillis: 1_000, memoryBytes: 64 * 2 ** 20 }), signal);
  const hostFolder = dirname(pathIn("memory"));
  const foreign = join(hostFolder, "foreign");
  await mkdir(foreign);
  if (version === 1) {
    // A crash during a removal leaves this state: Docker created the parent for this controller,
    // too.
    await rmdir(pathIn("memory"));
    await mkdir(pathIn("freezer"), { recursive: true });
  }
  expect(await cgroups.list()).toEqual([setId]);
  await cgroups.remove(setId, signal);
  expect(await cgroups.list()).toEqual([]);
  expect((await leftCgroups(hostId)).map((path) => path.split("/").at(-1))).toEqual(["foreign"]);
  await rmdir(foreign);
  await cgroups.remove(setId, signal);
  await expect(stat(hostFolder)).rejects.toThrow("ENOENT");
});

it("a cgroup whose processes stay is a temporary error", async () => {
  await cgroups.ensure(setId, setLimits({ cpuMillis: 1_000, memoryBytes: 64 * 2 ** 20 }), signal);
  const sleeper = spawn("sleep", ["1000"]);
  try {
    await writeFile(`${pathIn("memory")}/cgroup.procs`, String(sleeper.pid));
    await expect(cgroups.remove(setId, signal)).rejects.toMatchObject({
      code: "cgroup-busy",
      phase: "remove",
      temporary: true,
    });
  } finally {
    sleeper.kill("SIGKILL");
  }
  await cgroups.remove(setId, signal);
});

it("systemd gets nested slices and the CPU time of a second", async () => {
  const slices = createSystemdCgroups({ hostId, root, version: 2, driver: "systemd" });
  expect(slices.parentOf(setId)).toBe(`berth-${hostId}-${setId}.slice`);
  const limits = setLimits({ cpuMillis: 1_500, memoryBytes: 2 ** 30 });
  expect(sliceProperties(limits, 2)).toEqual({
    memory: [["MemoryMax", "t", "1073741824"]],
    others: [
      ["CPUQuotaPerSecUSec", "t", "1500000"],
      ["CPUWeight", "t", "59"],
      ["MemoryLow", "t", "536870912"],
      ["TasksMax", "t", "8192"],
      ["MemorySwapMax", "t", "0"],
    ],
  });
  expect(sliceProperties(limits, 1).others).toContainEqual(["CPUShares", "t", "1536"]);
  const unlimited = { ...limits, cpuQuotaUs: Infinity, memoryBytes: Infinity };
  expect(sliceProperties(unlimited, 2)).toEqual({
    memory: [["MemoryMax", "t", "18446744073709551615"]],
    others: expect.arrayContaining([["CPUQuotaPerSecUSec", "t", "18446744073709551615"]]),
  });
  expect(await slices.list()).toEqual([]);
});
