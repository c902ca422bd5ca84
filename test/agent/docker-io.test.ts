import { readFile } from "node:fs/promises";
import Docker from "dockerode";
import { afterEach, beforeEach, expect, it } from "vitest";
import { composeSetEngine } from "../../src/main/compose/set-engine.ts";
import { findBlockDevice } from "../../src/lib/linux/block-device.ts";
import { createVolumes } from "../../src/host-adapters/volumes/volumes.ts";
import type { LocalSetSpec, ObservedLocalSet } from "../../src/agent/model/local-set.ts";
import type { SetPort } from "../../src/agent/ports/set-port.ts";
import { ioUnenforceableReason, areLimitsApplied } from "../../src/agent/model/set-limits.ts";
import type { IoLimits } from "../../src/contracts/api/set-template.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";
import { execIn } from "../support/docker/docker-exec.ts";
import { removeHost } from "../support/docker/docker-host.ts";
import { readKernelIoLimits } from "../support/docker/kernel-io-limits.ts";
import { localSet } from "../support/agent/local-set.ts";
import { type LoopHarness, openLoopHarness } from "../support/volumes/loop-harness.ts";

const docker = new Docker();
const { signal } = new AbortController();
const MiB = 2 ** 20;
const someLimits = {
  readBytesPerSecond: 30 * MiB,
  writeBytesPerSecond: 20 * MiB,
  readOpsPerSecond: 3_000,
  writeOpsPerSecond: 2_000,
};
let hostId: string;
let harness: LoopHarness;
let port: SetPort;

beforeEach(async () => {
  hostId = newId("host");
  harness = await openLoopHarness("ext4", 32 * MiB);
  const volumes = createVolumes({
    store: harness.openStore(),
    root: harness.root,
    fileSystem: harness.fileSystem,
    retentionMs: 3_600_000,
    purgesEarly: false,
    log: silentLog,
  });
  port = composeSetEngine({ docker, hostId, log: silentLog, volumes });
});
afterEach(async () => {
  await removeHost(docker, hostId);
  await harness.close();
});

async function run(io: IoLimits | undefined): Promise<LocalSetSpec> {
  const volume = { size: "32Mi", mountPath: "/data" };
  const set = localSet({ names: ["app", "side"], template: { volume, io } });
  await port.prepare(set, signal);
  await port.start(set, ["app", "side"], signal);
  return set;
}

function withIo(set: LocalSetSpec, io: IoLimits | undefined): LocalSetSpec {
  return { ...set, generation: set.generation + 1, template: { ...set.template, io } };
}

async function see(set: LocalSetSpec): Promise<ObservedLocalSet> {
  const observed = await port.observeSet(set.setId, signal);
  if (!observed) throw new Error("the set does not exist");
  return observed;
}

const containerOf = (set: LocalSetSpec, name: string) =>
  docker.getContainer(`berth-${set.setId}-${name}`);

async function ioLimitsOf(set: LocalSetSpec, name: string) {
  return readKernelIoLimits((await containerOf(set, name).inspect()).State.Pid);
}

/** The same limits for both devices that a set writes to. */
async function onBoth(limits: IoLimits): Promise<Record<string, IoLimits>> {
  const { DockerRootDir } = (await docker.info()) as { DockerRootDir: string };
  const disk = await findBlockDevice(DockerRootDir);
  const mounts = await readFile("/proc/self/mountinfo", "utf8");
  const volume = mounts.split("\n").find((line) => line.includes(` ${harness.root}/`));
  return { [disk ?? ""]: limits, [volume?.split(" ")[2] ?? ""]: limits };
}

const hasWantedLimits = async (set: LocalSetSpec) => areLimitsApplied(set.template, await see(set));

it("I/O limits apply to every container of a set, on its volume and on Docker's disk", async () => {
  const set = await run(someLimits);
  for (const name of ["app", "side"])
    expect(await ioLimitsOf(set, name)).toEqual(await onBoth(someLimits));
  expect(await hasWantedLimits(set)).toBe(true);
  expect(ioUnenforceableReason(set.template, await see(set))).toBeUndefined();
});

it("a set without I/O limits is not limited", async () => {
  const set = await run(undefined);
  expect(await ioLimitsOf(set, "app")).toEqual({});
  expect(await hasWantedLimits(set)).toBe(true);
});

it("I/O limits that a restart cleared are observed, and restored without another restart", async () => {
  const set = await run(someLimits);
  await containerOf(set, "app").restart({ t: 0 });
  const { Id, State: state } = await containerOf(set, "app").inspect();
  // Version 2 has the limits in the set's cgroup.
  if (!(await hasWantedLimits(set))) await port.resize(set, signal);
  expect(await ioLimitsOf(set, "app")).toEqual(await onBoth(someLimits));
  expect(await hasWantedLimits(set)).toBe(true);
  expect(await containerOf(set, "app").inspect()).toMatchObject({
    Id,
    State: { StartedAt: state.StartedAt },
  });
});

it("I/O limits change and end while the same containers keep running", async () => {
  const set = await run(someLimits);
  const before = (await see(set)).containers.map((seen) => [seen.dockerId, seen.startedAt]);
  const less = { writeBytesPerSecond: MiB };
  for (const [io, expected] of [
    [less, await onBoth(less)],
    [undefined, {}],
    [someLimits, await onBoth(someLimits)],
  ] as const) {
    const changed = withIo(set, io);
    expect(await hasWantedLimits(changed)).toBe(false);
    await port.prepare(changed, signal);
    await port.resize(changed, signal);
    expect(await ioLimitsOf(set, "app")).toEqual(expected);
    expect(await ioLimitsOf(set, "side")).toEqual(expected);
    expect(await hasWantedLimits(changed)).toBe(true);
  }
  const after = (await see(set)).containers.map((seen) => [seen.dockerId, seen.startedAt]);
  expect(after).toEqual(before);
});

it.each([
  ["its volume", "/data/file"],
  ["its root file system", "/file"],
])("I/O limits slow down a container's writes to %s and its reads from it", async (_what, file) => {
  const set = await run(undefined);
  const timed = async (command: string) => {
    const startedAtMs = performance.now();
    const said = await execIn(docker, { setId: set.setId, container: "app" }, command);
    expect(said).not.toMatch(/invalid|error/i);
    return performance.now() - startedAtMs;
  };
  const write = `dd if=/dev/zero of=${file} bs=1M count=4 oflag=direct`;
  const read = `dd if=${file} of=/dev/null bs=1M count=4 iflag=direct`;
  const bestOf3 = async (command: string) =>
    Math.min(await timed(command), await timed(command), await timed(command));
  const [freeWriteMs, freeReadMs] = [await bestOf3(write), await bestOf3(read)];
  const limits = { writeBytesPerSecond: MiB, readBytesPerSecond: MiB };
  await port.resize(withIo(set, limits), signal);
  // 4 MiB at 1 MiB/s take about 4 s, and tens of milliseconds without limits.
  expect(await timed(write)).toBeGreaterThan(3 * freeWriteMs);
  expect(await timed(read)).toBeGreaterThan(3 * freeReadMs);
});
