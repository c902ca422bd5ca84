import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { isLimited, setLimits } from "../../agent/model/set-limits.ts";
import { createFsCgroups } from "./fs-cgroups.ts";
import type { SetCgroups } from "./set-cgroups.ts";

const { signal } = new AbortController();
const MiB = 2 ** 20;
const setId = "set_one";
const limits = setLimits({ cpuMillis: 1_500, memoryBytes: 256 * MiB });

/**
 * A folder replaces the kernel's file system: the tests check what is written there and what
 * follows from its content.
 */
describe("cgroups of version 2", () => {
  let root: string;
  let folder: string;
  let cgroups: SetCgroups;

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), "berth-cgroups-"));
    folder = join(root, "berth", "host_one", setId);
    cgroups = createFsCgroups({ hostId: "host_one", root, version: 2, driver: "cgroupfs" });
    await cgroups.ensure(setId, limits, signal);
  });
  afterEach(() => rm(root, { recursive: true, force: true }));

  const file = (name: string) => readFile(join(folder, name), "utf8");

  async function holdMemory(
    path: string,
    { anonymous, cache }: { anonymous: number; cache: number },
  ) {
    await mkdir(path, { recursive: true });
    await writeFile(join(path, "memory.current"), `${anonymous + cache}\n`);
    const stat = [`anon ${anonymous}`, `inactive_file ${cache - 4_096}`, "active_file 4096"];
    await writeFile(join(path, "memory.stat"), `${stat.join("\n")}\n`);
  }

  it("store a quota, a weight and a memory limit, and read them again", async () => {
    expect(await file("cpu.max")).toBe("150000 100000");
    expect(await file("cpu.weight")).toBe("59");
    expect(await file("memory.max")).toBe(String(256 * MiB));
    expect(await file("memory.low")).toBe(String(128 * MiB));
    const above = await readFile(join(folder, "..", "memory.low"), "utf8");
    expect(above).toBe(String(Math.floor(totalmem() / 2)));
    expect(await file("pids.max")).toBe("8192");
    const seen = await cgroups.read(setId);
    expect(seen).toMatchObject({ cpuQuotaUs: 150_000, memoryBytes: 256 * MiB });
    await cgroups.ensure(setId, { ...limits, cpuQuotaUs: Infinity, memoryBytes: Infinity }, signal);
    expect(await file("cpu.max")).toBe("max 100000");
    expect(await file("memory.max")).toBe("max");
    const lifted = { cpuQuotaUs: Infinity, memoryBytes: Infinity };
    expect(await cgroups.read(setId)).toMatchObject(lifted);
  });

  it("store I/O limits of a device after the delegation of the controller, and read them again", async () => {
    const devices = ["8:16"];
    const readIo = () => cgroups.readIo(setId, "abc", devices);
    const io = { writeBytesPerSecond: MiB, readOpsPerSecond: 100 };
    expect(await readIo()).toBeUndefined(); // the kernel has no such controller
    await cgroups.limitIo(setId, "abc", { devices, limits: io }, signal);
    const none = [Infinity, Infinity, Infinity, Infinity];
    await writeFile(join(root, "cgroup.controllers"), "cpuset cpu io memory pids\n");
    expect((await readIo())?.flatMap(Object.values)).toEqual(none);
    await writeFile(join(folder, "io.max"), "");
    await cgroups.limitIo(setId, "abc", { devices, limits: io }, signal);
    for (const above of ["", "berth", "berth/host_one"])
      expect(await readFile(join(root, above, "cgroup.subtree_control"), "utf8")).toBe("+io");
    expect(await file("io.max")).toBe("8:16 rbps=max wbps=1048576 riops=100 wiops=max");
    expect(await readIo()).toEqual([
      { ...io, readBytesPerSecond: Infinity, writeOpsPerSecond: Infinity },
    ]);
    expect(await cgroups.readIo(setId, "abc", ["8:1"])).not.toEqual(await readIo());
    await writeFile(join(folder, "io.max"), "");
    await cgroups.limitIo(setId, "abc", { devices, limits: {} }, signal);
    expect(await file("io.max")).toBe("8:16 rbps=max wbps=max riops=max wiops=max");
    expect((await readIo())?.flatMap(Object.values)).toEqual(none);
  });

  it("have no I/O limits if the kernel's controller has none", async () => {
    await writeFile(join(root, "cgroup.controllers"), "cpuset cpu io memory pids\n");
    await writeFile(join(folder, "io.stat"), "");
    await cgroups.limitIo(setId, "abc", { devices: ["8:16"], limits: {} }, signal);
    expect(await cgroups.readIo(setId, "abc", ["8:16"])).toBeUndefined();
  });

  it("accept the weight of a container from old and new runtimes, and no other", async () => {
    const wanted = setLimits({ cpuMillis: 1_000, memoryBytes: 64 * MiB });
    await mkdir(join(folder, "abc"));
    await writeFile(join(folder, "abc", "cpu.max"), "100000 100000\n");
    await writeFile(join(folder, "abc", "memory.max"), `${64 * MiB}\n`);
    const isApplied = async (weight: number) => {
      await writeFile(join(folder, "abc", "cpu.weight"), `${weight}\n`);
      return isLimited(await cgroups.readContainer(setId, "abc"), wanted);
    };
    expect(await isApplied(39)).toBe(true); // runc 1.1
    expect(await isApplied(100)).toBe(true); // runc 1.3.2
    for (const foreign of [1, 60, 98, 102, 10_000]) expect(await isApplied(foreign)).toBe(false);
  });

  it("never shrink below memory that processes hold, apart from page cache", async () => {
    await holdMemory(folder, { anonymous: 100 * MiB, cache: 100 * MiB });
    await expect(
      cgroups.ensure(setId, { ...limits, memoryBytes: 99 * MiB }, signal),
    ).rejects.toMatchObject({
      code: "memory-in-use",
      phase: "resize",
      temporary: true,
      message: expect.stringContaining("uses 100 MiB of memory, more than its new limit of 99 MiB"),
    });
    expect(await file("memory.max")).toBe(String(256 * MiB));
    expect(await file("cpu.max")).toBe("150000 100000");
    const narrow = { ...limits, cpuQuotaUs: 50_000, pidsMax: 7, memoryBytes: 99 * MiB };
    await expect(cgroups.ensure(setId, narrow, signal)).rejects.toThrow("uses");
    // Memory in use does not delay the other limits.
    expect(await file("cpu.max")).toBe("50000 100000");
    expect(await cgroups.read(setId)).toMatchObject({ pidsMax: 7, memoryBytes: 256 * MiB });
    await cgroups.ensure(setId, { ...limits, memoryBytes: 101 * MiB }, signal);
    expect(await file("memory.max")).toBe(String(101 * MiB));
  });

  it("report a container's kills for lack of memory and its peak", async () => {
    expect(await cgroups.containerMemoryEvents(setId, "abc")).toBeUndefined();
    await mkdir(join(folder, "abc"));
    const events = ["low 0", "high 0", "max 9", "oom 3", "oom_kill 2", "oom_group_kill 0"];
    await writeFile(join(folder, "abc", "memory.events"), `${events.join("\n")}\n`);
    const unknown = { oomKills: 2, peakBytes: undefined };
    expect(await cgroups.containerMemoryEvents(setId, "abc")).toEqual(unknown);
    await writeFile(join(folder, "abc", "memory.peak"), "4096\n");
    expect(await cgroups.containerMemoryEvents(setId, "abc")).toMatchObject({ peakBytes: 4_096 });
  });

  it("list the processes of a container", async () => {
    expect(await cgroups.listProcesses(setId, "abc")).toEqual([]);
    await mkdir(join(folder, "abc"));
    await writeFile(join(folder, "abc", "cgroup.procs"), "4711\n0\n4712\n");
    expect(await cgroups.listProcesses(setId, "abc")).toEqual([4711, 4712]);
  });

  it("report the memory that the set and each container hold", async () => {
    const dockerId = "0123456789ab".padEnd(64, "c");
    await holdMemory(folder, { anonymous: 12 * MiB, cache: MiB });
    await holdMemory(join(folder, dockerId), { anonymous: 9 * MiB, cache: MiB });
    await mkdir(join(folder, "foreign"));
    const held = { [setId]: 12 * MiB, "0123456789ab": 9 * MiB };
    expect(await cgroups.memoryUsage(setId)).toEqual(held);
    expect(await cgroups.memoryUsage("set_other")).toEqual({});
  });

  it("refuse a container's lower limit before Docker applies it", async () => {
    const container = { dockerId: "abc", name: "app" };
    await cgroups.checkContainerMemory(setId, container, MiB);
    await holdMemory(join(folder, "abc"), { anonymous: 10 * MiB, cache: MiB });
    await cgroups.checkContainerMemory(setId, container, 10 * MiB);
    await expect(cgroups.checkContainerMemory(setId, container, 9 * MiB)).rejects.toMatchObject({
      code: "memory-in-use",
      message: expect.stringContaining('"app" uses 10 MiB'),
    });
  });
});

describe("cgroups of version 1", () => {
  it("have no I/O limits if the kernel has no such hierarchy", async () => {
    const root = await mkdtemp(join(tmpdir(), "berth-cgroups-"));
    try {
      const cgroups = createFsCgroups({ hostId: "host_one", root, version: 1, driver: "cgroupfs" });
      const io = { devices: ["8:16"], limits: { writeBytesPerSecond: MiB } };
      await cgroups.limitIo(setId, "abc", io, signal);
      expect(await cgroups.readIo(setId, "abc", io.devices)).toBeUndefined();
    } finally {
      await rm(root, { recursive: true, force: true });
    }
  });
});
