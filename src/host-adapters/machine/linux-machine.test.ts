import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { cpus, tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { AgentError } from "../../agent/base/agent-error.ts";
import type { HostLimit } from "./host-limits.ts";
import { createLinuxMachine } from "./linux-machine.ts";

const cpuMillis = cpus().length * 1_000;
const noReserve = { cpu: 0, memory: 0, rootfs: 0 };

describe("the machine", () => {
  let procRoot: string;
  beforeEach(async () => {
    procRoot = await mkdtemp(path.join(tmpdir(), "berth-proc-"));
    await writeProc({ busy: 100, idle: 900, load: 0 });
  });
  afterEach(() => rm(procRoot, { recursive: true }));

  async function writeProc({ busy, idle, load }: { busy: number; idle: number; load: number }) {
    await writeFile(`${procRoot}/stat`, `cpu  ${busy} 0 0 ${idle} 0 0 0 0 5 0\ncpu0 1 2 3 4\n`);
    await writeFile(`${procRoot}/loadavg`, `${load} 0.00 0.00 1/100 1234\n`);
    await writeFile(
      `${procRoot}/meminfo`,
      "MemTotal:       2000000 kB\nMemFree:  1 kB\nMemAvailable:   1600000 kB\n",
    );
  }

  it("counts unavailable memory as used, and excludes the reserve from the allocatable capacity", async () => {
    const reservePercent = { cpu: 10, memory: 20, rootfs: 50 };
    const machine = createLinuxMachine({ dockerRoot: () => "/", reservePercent, procRoot });
    const { used, allocatable } = await machine.measure(0);
    expect(used.memoryBytes).toBe(400_000 * 1_024);
    expect(allocatable.memoryBytes).toBe(1_600_000 * 1_024);
    expect(allocatable.cpuMillis).toBe((cpuMillis * 9) / 10);
    expect(allocatable.volumeBytes).toBe(0);
    expect(used.rootfsBytes).toBeGreaterThan(0);
    expect(allocatable.rootfsBytes).toBeGreaterThan(0);
    expect(Object.values({ ...used, ...allocatable }).every(Number.isInteger)).toBe(true);
  });

  it("reserves memory for the system, and nothing for containers, whose sets book it", async () => {
    const reservePercent = { cpu: 5, memory: 5, rootfs: 0 };
    const machine = createLinuxMachine({ dockerRoot: () => "/", reservePercent, procRoot });
    const { allocatable } = await machine.measure(0);
    expect(allocatable.memoryBytes).toBe(2_000_000 * 1_024 - 256 * 2 ** 20);
    const { memoryBytes } = (await machine.measure(100)).allocatable;
    expect(memoryBytes).toBe(allocatable.memoryBytes);
  });

  it("reserves at most a quarter of a small machine for the system", async () => {
    await writeFile(`${procRoot}/meminfo`, "MemTotal: 400000 kB\nMemAvailable: 300000 kB\n");
    const machine = createLinuxMachine({
      dockerRoot: () => "/",
      reservePercent: noReserve,
      procRoot,
    });
    expect((await machine.measure(0)).allocatable.memoryBytes).toBe(300_000 * 1_024);
  });

  it("starts with the load of the last minute, at most the whole machine", async () => {
    await writeProc({ busy: 1, idle: 1, load: cpus().length / 2 });
    const half = createLinuxMachine({ dockerRoot: () => "/", reservePercent: noReserve, procRoot });
    expect((await half.measure(0)).used.cpuMillis).toBe(cpuMillis / 2);
    await writeProc({ busy: 1, idle: 1, load: 999 });
    const full = createLinuxMachine({ dockerRoot: () => "/", reservePercent: noReserve, procRoot });
    expect((await full.measure(0)).used.cpuMillis).toBe(cpuMillis);
  });

  it("excludes the processors of the switch, which are always busy", async () => {
    const writeStat = (own: string) =>
      writeFile(
        `${procRoot}/stat`,
        `cpu  ${own}\ncpu0 50 0 0 50 0 0 0 0\ncpu1 100 0 0 0 0 0 0 0\n`,
      );
    await writeStat("0 0 0 0 0 0 0 0");
    const machine = createLinuxMachine({
      dockerRoot: () => "/",
      reservePercent: noReserve,
      switchCpus: [1],
      procRoot,
    });
    const { allocatable, used } = await machine.measure(0);
    expect(allocatable.cpuMillis).toBe(cpuMillis - 1_000);
    expect(used.cpuMillis).toBe(0);
    // Only the switch is busy.
    await writeFile(`${procRoot}/stat`, "cpu  900 0 0 500 0 0 0 0\ncpu1 1000 0 0 0 0 0 0 0\n");
    expect((await machine.measure(0)).used.cpuMillis).toBe(0);
  });

  it("approaches the current CPU usage, and never exceeds the machine", async () => {
    const machine = createLinuxMachine({
      dockerRoot: () => "/",
      reservePercent: noReserve,
      procRoot,
    });
    const before = (await machine.measure(0)).used.cpuMillis;
    await writeProc({ busy: 1_000_000, idle: 900, load: 0 });
    await new Promise((resolve) => setTimeout(resolve, 60));
    const after = (await machine.measure(0)).used.cpuMillis;
    expect(before).toBe(0);
    expect(after).toBeGreaterThan(0);
    expect(after).toBeLessThan(cpuMillis);
  });

  it("names the file that is malformed", async () => {
    await writeFile(`${procRoot}/meminfo`, "MemTotal: 1 kB\n");
    const machine = createLinuxMachine({
      dockerRoot: () => "/",
      reservePercent: noReserve,
      procRoot,
    });
    await expect(machine.measure(0)).rejects.toThrow("meminfo has no MemAvailable");
  });

  it("reports no capacity for volumes that cannot be measured, with the reason and all other values", async () => {
    const missing = new AgentError("volume-missing", "there is no volume group berth", {
      phase: "volume",
      temporary: true,
    });
    const volumes = { capacity: () => Promise.reject(missing), areOnDockerRoot: false };
    const options = { dockerRoot: () => "/", reservePercent: noReserve, procRoot };
    const machine = createLinuxMachine({ ...options, volumes: () => volumes });
    const { used, allocatable, volumeReason } = await machine.measure(0);
    expect(volumeReason).toMatchObject({ code: "volume-missing", text: missing.message });
    expect([used.volumeBytes, allocatable.volumeBytes]).toEqual([0, 0]);
    expect(used.memoryBytes).toBe(400_000 * 1_024);
  });

  describe("the limits that its sets share", () => {
    const roomy = { name: "fs.roomy", value: 9, setsMax: 900, isHard: true, remedy: "raise it" };
    const soft = { name: "fs.tight", value: 128, setsMax: 20, isHard: false, remedy: "raise it" };
    const hard = { name: "the ports", value: 30, setsMax: 30, isHard: true, remedy: "add hosts" };

    async function measureWith(found: HostLimit[], sets: number) {
      const limits = () => found;
      const options = { dockerRoot: () => "/", reservePercent: noReserve, procRoot, limits };
      return createLinuxMachine(options).measure(sets);
    }

    it("names the limit that admits few more sets", async () => {
      expect((await measureWith([roomy, soft], 17)).volumeReason).toBeNull();
      expect((await measureWith([roomy, soft], 18)).volumeReason).toEqual({
        code: "sets-limited",
        text: "The host has 18 sets. The limit of fs.tight (128) is enough for about 20; above that, containers may fail to start. Remedy: raise it.",
      });
    });

    it("bounds the sets only by limits whose excess fails the start of a container", async () => {
      expect(await measureWith([soft], 40)).toMatchObject({ setsMax: null });
      expect(await measureWith([roomy, soft], 0)).toMatchObject({ setsMax: 900 });
      expect(await measureWith([roomy, soft, hard], 0)).toMatchObject({ setsMax: 30 });
    });

    it("names the limit at which no more sets are placed before one that only warns", async () => {
      expect((await measureWith([soft, hard], 26)).volumeReason?.text).toContain("fs.tight");
      expect((await measureWith([soft, hard], 27)).volumeReason).toEqual({
        code: "sets-limited",
        text: "The host has 27 sets. The limit of the ports (30) is enough for about 30, and Berth places no more there. Remedy: add hosts.",
      });
    });
  });

  it("measures this machine", async () => {
    const machine = createLinuxMachine({ dockerRoot: () => "/", reservePercent: noReserve });
    const { used, allocatable } = await machine.measure(0);
    expect(used.memoryBytes).toBeGreaterThan(2 ** 20);
    expect(used.memoryBytes).toBeLessThan(allocatable.memoryBytes);
    expect(used.cpuMillis).toBeLessThanOrEqual(allocatable.cpuMillis);
  });
});
