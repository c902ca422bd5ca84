import { readFile, writeFile } from "node:fs/promises";
import Docker from "dockerode";
import { afterEach, beforeEach, expect, it } from "vitest";
import { composeSetEngine } from "../../src/main/compose/set-engine.ts";
import type { LocalSetSpec, ObservedLocalSet } from "../../src/agent/model/local-set.ts";
import type { SetPort } from "../../src/agent/ports/set-port.ts";
import { areLimitsApplied } from "../../src/agent/model/set-limits.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";
import { removeHost } from "../support/docker/docker-host.ts";
import { localSet, type LocalSetChanges } from "../support/agent/local-set.ts";
import { waitUntil } from "../support/wait-until.ts";

const docker = new Docker();
const { signal } = new AbortController();
const MiB = 2 ** 20;
let hostId: string;
let port: SetPort;
let isVersion2: boolean;

beforeEach(async () => {
  hostId = newId("host");
  port = composeSetEngine({ docker, hostId, log: silentLog });
  isVersion2 = (await docker.info()).CgroupVersion === "2";
});
afterEach(() => removeHost(docker, hostId));

async function run(changes: LocalSetChanges): Promise<LocalSetSpec> {
  const set = localSet(changes);
  await start(set);
  return set;
}

async function start(set: LocalSetSpec): Promise<void> {
  await port.prepare(set, signal);
  const names = set.template.containers.map(({ name }) => name);
  await port.start(set, names, signal);
}

function inspect(set: LocalSetSpec, name: string): Promise<Docker.ContainerInspectInfo> {
  return docker.getContainer(`berth-${set.setId}-${name}`).inspect();
}

async function see(set: LocalSetSpec): Promise<ObservedLocalSet> {
  const observed = await port.observeSet(set.setId, signal);
  if (!observed) throw new Error("the set does not exist");
  return observed;
}

/**
 * Container ids, states and start times. They stay equal until a container is restarted or
 * replaced.
 */
async function runsOf(set: LocalSetSpec) {
  const { infra, containers } = await see(set);
  return [infra, ...containers].map((seen) => [seen?.dockerId, seen?.state, seen?.startedAt]);
}

function resized(set: LocalSetSpec, cpuMillis: number, mebibytes: number): LocalSetSpec {
  const template = { ...set.template, cpuMillis, memoryBytes: mebibytes * MiB };
  return { ...set, generation: set.generation + 1, template };
}

/** The cgroup folder of a container's process, in the controller's hierarchy for version 1. */
async function cgroupOf(pid: number, controller: string): Promise<string> {
  const lines = (await readFile(`/proc/${pid}/cgroup`, "utf8")).trim().split("\n");
  const parts = lines.map((line) => line.split(":"));
  if (isVersion2) return `/sys/fs/cgroup${parts.at(-1)?.[2]}`;
  return `/sys/fs/cgroup/${controller}${parts.find(([, names]) => names === controller)?.[2]}`;
}

const softLimit = "memory.soft_limit_in_bytes";

/**
 * The kernel's limits of a container, or of its set: quota, shares (version 1) or weight (version
 * 2), memory and processes.
 */
async function kernelLimits(set: LocalSetSpec, name: string, { ofSet = false } = {}) {
  const { State: state } = await inspect(set, name);
  const read = async (controller: string, file: string) => {
    const folder = await cgroupOf(state.Pid, controller);
    return (await readFile(`${folder}${ofSet ? "/.." : ""}/${file}`, "utf8")).trim();
  };
  const [quota, share, memory, reserved] = isVersion2
    ? (["cpu.max", "cpu.weight", "memory.max", "memory.low"] as const)
    : (["cpu.cfs_quota_us", "cpu.shares", "memory.limit_in_bytes", softLimit] as const);
  return {
    quotaUs: Number((await read("cpu", quota)).split(" ")[0]),
    share: Number(await read("cpu", share)),
    mebibytes: Number(await read("memory", memory)) / MiB,
    reservedMebibytes: Number(await read("memory", reserved)) / MiB,
    pids: Number(await read("pids", "pids.max")),
  };
}

/** Writes a file of the set's cgroup, which an administrator of the machine may do. */
async function writeSetFile(set: LocalSetSpec, controller: string, file: string, text: string) {
  const { State: state } = await inspect(set, "app");
  await writeFile(`${await cgroupOf(state.Pid, controller)}/../${file}`, text);
}

const liftQuota = (set: LocalSetSpec) =>
  isVersion2
    ? writeSetFile(set, "cpu", "cpu.max", "max")
    : writeSetFile(set, "cpu", "cpu.cfs_quota_us", "-1");

/** Holds about 40 MB and reports it. */
const hoard = [
  "/bin/sh",
  "-c",
  "trap 'exit 0' TERM; x=$(head -c 40000000 /dev/zero | tr '\\0' x); echo held; sleep 1000 & wait; echo $x",
];

async function untilHeld(set: LocalSetSpec, name: string): Promise<void> {
  await waitUntil("the container holds the memory", async () => {
    const chunks: Uint8Array[] = [];
    for await (const chunk of port.logs(set.setId, name, { tail: 5, follow: false }, signal)) {
      chunks.push(chunk);
    }
    return Buffer.concat(chunks).toString().includes("held") ? true : undefined;
  });
}

it("the kernel limits the set as a whole and each container by its percentages", async () => {
  const set = await run({
    names: ["app", "side"],
    template: { cpu: 1.5, memory: "256Mi" },
    options: { cpu: 40, memory: 25 },
  });
  expect(await kernelLimits(set, "app", { ofSet: true })).toEqual({
    quotaUs: 150_000,
    share: isVersion2 ? 59 : 1_536,
    mebibytes: 256,
    reservedMebibytes: 128,
    pids: 8_192,
  });
  expect(await kernelLimits(set, "app")).toEqual({
    quotaUs: 60_000,
    share: isVersion2 ? 24 : 614,
    mebibytes: 64,
    reservedMebibytes: 32,
    pids: 4_096,
  });
  const { HostConfig: host } = await inspect(set, "app");
  expect(host.MemorySwap).toBe(host.Memory);
  const infra = await inspect(set, "infra");
  expect(infra.HostConfig.CgroupParent).toBe(host.CgroupParent);
});

it("a set grows and shrinks in the kernel's files while every container keeps running", async () => {
  const set = await run({ names: ["app", "side"] });
  const before = await runsOf(set);
  for (const [cpuMillis, mebibytes] of [
    [4_000, 512],
    [250, 32],
    [250, 256],
    [2_000, 64],
  ] as const) {
    const wanted = resized(set, cpuMillis, mebibytes);
    await port.resize(wanted, signal);
    const ofSet = await kernelLimits(set, "app", { ofSet: true });
    expect(ofSet).toMatchObject({ quotaUs: cpuMillis * 100, mebibytes });
    for (const name of ["app", "side"]) {
      const half = { quotaUs: cpuMillis * 50, mebibytes: mebibytes / 2 };
      expect(await kernelLimits(set, name)).toMatchObject(half);
    }
    expect(areLimitsApplied(wanted.template, await see(set))).toBe(true);
    expect(await runsOf(set)).toEqual(before);
  }
});

it("a set without its quota, after a foreign change, can shrink", async () => {
  const set = await run({ template: { cpu: 2, memory: "128Mi" }, options: { cpu: 100 } });
  const before = await runsOf(set);
  await liftQuota(set);
  const wanted = resized(set, 500, 128);
  expect(areLimitsApplied(wanted.template, await see(set))).toBe(false);
  await port.resize(wanted, signal);
  expect(await kernelLimits(set, "app", { ofSet: true })).toMatchObject({ quotaUs: 50_000 });
  expect(await kernelLimits(set, "app")).toMatchObject({ quotaUs: 50_000 });
  expect(await runsOf(set)).toEqual(before);
});

it.each([
  ["removed its quota", liftQuota],
  [
    "shortened its period",
    (set: LocalSetSpec) =>
      isVersion2
        ? writeSetFile(set, "cpu", "cpu.max", "100000 50000")
        : writeSetFile(set, "cpu", "cpu.cfs_period_us", "50000"),
  ],
  [
    "gave it more memory",
    (set: LocalSetSpec) =>
      isVersion2
        ? writeSetFile(set, "memory", "memory.max", "max")
        : // With swap first: it may never be below the limit without.
          writeSetFile(set, "memory", "memory.memsw.limit_in_bytes", "-1")
            .catch(() => undefined)
            .then(() => writeSetFile(set, "memory", "memory.limit_in_bytes", "-1")),
  ],
  [
    "gave it another share",
    (set: LocalSetSpec) =>
      isVersion2
        ? writeSetFile(set, "cpu", "cpu.weight", "7")
        : writeSetFile(set, "cpu", "cpu.shares", "77"),
  ],
  [
    "removed its process limit",
    (set: LocalSetSpec) => writeSetFile(set, "pids", "pids.max", "max"),
  ],
  [
    "removed its reservation",
    (set: LocalSetSpec) => writeSetFile(set, "memory", isVersion2 ? "memory.low" : softLimit, "0"),
  ],
] as const)(
  "the set's own limits are corrected after an administrator %s",
  async (_what, change) => {
    const set = await run({ template: { cpu: 2, memory: "128Mi" }, options: { cpu: 100 } });
    const before = await runsOf(set);
    const limits = await kernelLimits(set, "app", { ofSet: true });
    await change(set);
    const [seen] = await port.observe(signal);
    expect(seen && areLimitsApplied(set.template, seen)).toBe(false);
    await port.resize(set, signal);
    expect(await kernelLimits(set, "app", { ofSet: true })).toEqual(limits);
    expect(areLimitsApplied(set.template, await see(set))).toBe(true);
    expect(await runsOf(set)).toEqual(before);
  },
);

it.each([
  ["quota", { CpuPeriod: 100_000, CpuQuota: 2_000 }],
  ["period", { CpuPeriod: 200_000 }],
  ["share", { CpuShares: 99 }],
  ["memory", { Memory: 16 * MiB, MemorySwap: 16 * MiB }],
])(
  "a docker update of the %s causes an event, and is corrected without a restart",
  async (_, update) => {
    const set = await run({ template: { cpu: 1, memory: "128Mi" } });
    const before = await runsOf(set);
    const limits = await kernelLimits(set, "app");
    const watching = new AbortController();
    let hints = 0;
    // Details are cached while events arrive, and an event must invalidate them.
    const watch = port.watch(() => hints++, watching.signal);
    try {
      await waitUntil("events of the set arrive", async () => {
        await docker.getContainer(`berth-${set.setId}-app`).pause();
        await docker.getContainer(`berth-${set.setId}-app`).unpause();
        return hints > 0 ? true : undefined;
      });
      expect(areLimitsApplied(set.template, await see(set))).toBe(true);
      await docker.getContainer(`berth-${set.setId}-app`).update(update);
      await waitUntil("the difference is observed", async () =>
        areLimitsApplied(set.template, await see(set)) ? undefined : true,
      );
      await port.resize(set, signal);
      expect(areLimitsApplied(set.template, await see(set))).toBe(true);
      expect(await kernelLimits(set, "app")).toEqual(limits);
      expect(await runsOf(set)).toEqual(before);
    } finally {
      watching.abort();
      await watch;
    }
  },
);

it.each([
  ["cpu", "cpu.cfs_quota_us", "cpu.max", "7000"],
  ["memory", softLimit, "memory.low", "0"],
  ["pids", "pids.max", "pids.max", "11"],
])(
  "a foreign write to a container's file of the controller %s is corrected",
  async (controller, first, second, text) => {
    const set = await run({ template: { cpu: 1, memory: "128Mi" } });
    const before = await runsOf(set);
    const limits = await kernelLimits(set, "app");
    const { State: state } = await inspect(set, "app");
    await writeFile(
      `${await cgroupOf(state.Pid, controller)}/${isVersion2 ? second : first}`,
      text,
    );
    // Docker does not know about it.
    expect(areLimitsApplied(set.template, await see(set))).toBe(false);
    await port.resize(set, signal);
    expect(await kernelLimits(set, "app")).toEqual(limits);
    expect(areLimitsApplied(set.template, await see(set))).toBe(true);
    expect(await runsOf(set)).toEqual(before);
  },
);

it("memory usage is measured for sets and containers", async () => {
  const set = await run({ options: { command: hoard } });
  await untilHeld(set, "app");
  const usage = await port.memoryUsage();
  const { Id: dockerId } = await inspect(set, "app");
  const [ofSet = 0, ofContainer = 0] = [usage[set.setId], usage[dockerId.slice(0, 12)]];
  expect(ofContainer).toBeGreaterThan(40_000_000);
  expect(ofContainer).toBeLessThan(60_000_000);
  expect(ofSet).toBeGreaterThanOrEqual(ofContainer);
});

it("a set that shrinks while a container is replaced retains its other containers", async () => {
  const set = await run({ names: ["app", "side"], template: { cpu: 4, memory: "256Mi" } });
  const before = await inspect(set, "side");
  const wanted = structuredClone(resized(set, 500, 64));
  const [app] = wanted.template.containers;
  if (app) app.options.env = { COLOR: "blue" };
  await start(wanted);
  await port.resize(wanted, signal);
  expect(areLimitsApplied(wanted.template, await see(wanted))).toBe(true);
  expect((await inspect(wanted, "side")).State).toEqual(before.State);
  expect(await kernelLimits(wanted, "side", { ofSet: true })).toMatchObject({ quotaUs: 50_000 });
});

it("a stopped set that shrank starts with its new size", async () => {
  const set = await run({ template: { cpu: 4, memory: "256Mi" }, options: { cpu: 100 } });
  await port.stopAll(set.setId, signal);
  const wanted = resized(set, 500, 64);
  await start(wanted);
  await port.resize(wanted, signal);
  expect(areLimitsApplied(wanted.template, await see(wanted))).toBe(true);
  expect(await kernelLimits(wanted, "app")).toMatchObject({ quotaUs: 50_000, mebibytes: 64 });
});

it("memory that a container uses is not reclaimed, and everything else is resized", async () => {
  const set = localSet({ names: ["app", "side"], template: { memory: "256Mi" } });
  const [app] = set.template.containers;
  if (app) app.options.command = hoard;
  await start(set);
  await untilHeld(set, "app");
  const before = await runsOf(set);
  const smaller = resized(set, 3_000, 40);
  await expect(port.resize(smaller, signal)).rejects.toMatchObject({
    code: "memory-in-use",
    phase: "resize",
    temporary: true,
    message: expect.stringMatching(
      /"app" uses [\d.]+ MiB of memory, more than its new limit of 20 MiB/,
    ),
  });
  expect(await runsOf(set)).toEqual(before);
  expect(await kernelLimits(set, "app")).toMatchObject({ quotaUs: 150_000, mebibytes: 128 });
  expect(await kernelLimits(set, "side")).toMatchObject({ quotaUs: 150_000, mebibytes: 20 });
  // The set's CPU limit follows. Its memory limit stays while a container has its previous one.
  expect(await kernelLimits(set, "app", { ofSet: true })).toMatchObject({ quotaUs: 300_000 });
  await expect(port.resize(resized(set, 1_000, 40), signal)).rejects.toThrow("uses");
  const ofSet = { quotaUs: 100_000, mebibytes: 256 };
  expect(await kernelLimits(set, "app", { ofSet: true })).toMatchObject(ofSet);
  expect(await kernelLimits(set, "app")).toMatchObject({ quotaUs: 50_000, mebibytes: 128 });
  expect((await inspect(set, "app")).State.OOMKilled).toBe(false);
});

it("memory that the containers use together is not reclaimed", async () => {
  const set = localSet({
    names: ["app", "side"],
    template: { memory: "256Mi" },
    options: { command: hoard },
  });
  for (const { options } of set.template.containers) options.memoryPercent = 100;
  await start(set);
  await Promise.all(["app", "side"].map((name) => untilHeld(set, name)));
  const before = await runsOf(set);
  const smaller = resized(set, 1_000, 64);
  await expect(port.resize(smaller, signal)).rejects.toMatchObject({
    code: "memory-in-use",
    phase: "resize",
    temporary: true,
    message: expect.stringMatching(
      /the set uses [\d.]+ MiB of memory, more than its new limit of 64 MiB/,
    ),
  });
  expect(await runsOf(set)).toEqual(before);
  const ofSet = { quotaUs: 100_000, mebibytes: 256 };
  expect(await kernelLimits(set, "app", { ofSet: true })).toMatchObject(ofSet);
});
