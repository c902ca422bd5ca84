import { readFile } from "node:fs/promises";
import Docker from "dockerode";
import { afterEach, beforeEach, expect, it } from "vitest";
import { createDockerSetPort } from "../../src/agent/adapters/docker/docker-set-port.ts";
import { blockDeviceOf } from "../../src/agent/adapters/machine/block-device.ts";
import { createVolumes } from "../../src/agent/adapters/volume/volumes.ts";
import type { LocalSetSpec, ObservedLocalSet, SetPort } from "../../src/agent/ports/set-port.ts";
import { ioHindrance, isSized } from "../../src/agent/set-limits.ts";
import type { IoLimits } from "../../src/contracts/api/set-template.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";
import { execIn } from "../support/docker/docker-exec.ts";
import { removeHost } from "../support/docker/docker-host.ts";
import { heldIo } from "../support/agent/held-io.ts";
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
  port = createDockerSetPort({ docker, hostId, log: silentLog, volumes });
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
  if (!observed) throw new Error("nothing of the set is there");
  return observed;
}

const containerOf = (set: LocalSetSpec, name: string) =>
  docker.getContainer(`berth-${set.setId}-${name}`);

async function held(set: LocalSetSpec, name: string) {
  return heldIo((await containerOf(set, name).inspect()).State.Pid);
}

/** Of the two devices that a set writes to. */
async function onBoth(limits: IoLimits): Promise<Record<string, IoLimits>> {
  const { DockerRootDir } = (await docker.info()) as { DockerRootDir: string };
  const disk = await blockDeviceOf(DockerRootDir);
  const mounts = await readFile("/proc/self/mountinfo", "utf8");
  const volume = mounts.split("\n").find((line) => line.includes(` ${harness.root}/`));
  return { [disk ?? ""]: limits, [volume?.split(" ")[2] ?? ""]: limits };
}

const isAsWanted = async (set: LocalSetSpec) => isSized(set.template, await see(set));

it("holds every container of a set to it, on its volume and on Docker's disk", async () => {
  const set = await run(someLimits);
  for (const name of ["app", "side"])
    expect(await held(set, name)).toEqual(await onBoth(someLimits));
  expect(await isAsWanted(set)).toBe(true);
  expect(ioHindrance(set.template, await see(set))).toBeUndefined();
});

it("leaves a set alone that is to have none", async () => {
  const set = await run(undefined);
  expect(await held(set, "app")).toEqual({});
  expect(await isAsWanted(set)).toBe(true);
});

it("sees what a restart has lifted, and puts it back without another", async () => {
  const set = await run(someLimits);
  await containerOf(set, "app").restart({ t: 0 });
  const { Id, State: state } = await containerOf(set, "app").inspect();
  if (!(await isAsWanted(set))) await port.resize(set, signal); // version 2 keeps it in the set's cgroup
  expect(await held(set, "app")).toEqual(await onBoth(someLimits));
  expect(await isAsWanted(set)).toBe(true);
  expect(await containerOf(set, "app").inspect()).toMatchObject({
    Id,
    State: { StartedAt: state.StartedAt },
  });
});

it("is changed and lifted while the same containers run on", async () => {
  const set = await run(someLimits);
  const before = (await see(set)).containers.map((seen) => [seen.dockerId, seen.startedAt]);
  const less = { writeBytesPerSecond: MiB };
  for (const [io, expected] of [
    [less, await onBoth(less)],
    [undefined, {}],
    [someLimits, await onBoth(someLimits)],
  ] as const) {
    const changed = withIo(set, io);
    expect(await isAsWanted(changed)).toBe(false);
    await port.prepare(changed, signal);
    await port.resize(changed, signal);
    expect(await held(set, "app")).toEqual(expected);
    expect(await held(set, "side")).toEqual(expected);
    expect(await isAsWanted(changed)).toBe(true);
  }
  const after = (await see(set)).containers.map((seen) => [seen.dockerId, seen.startedAt]);
  expect(after).toEqual(before);
});

it.each([
  ["its volume", "/data/file"],
  ["its root file system", "/file"],
])("slows down what a container writes to %s, and reads from it", async (_what, file) => {
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
  // 4 MiB at 1 MiB/s take some 4 s; some tens of milliseconds without.
  expect(await timed(write)).toBeGreaterThan(3 * freeWriteMs);
  expect(await timed(read)).toBeGreaterThan(3 * freeReadMs);
});
