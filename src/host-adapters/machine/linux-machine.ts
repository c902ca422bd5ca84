import { readFile, statfs } from "node:fs/promises";
import { cpus } from "node:os";
import { runAbortable } from "../../lib/async/abort.ts";
import { formatCount } from "../../lib/text/format-count.ts";
import type { Reason, ResourceAmounts } from "../../contracts/common/primitives.ts";
import { findTightest, type HostLimit } from "./host-limits.ts";
import type { MachinePort } from "../../agent/ports/machine-port.ts";
import type { VolumeCapacity } from "../../agent/ports/volume-port.ts";
import { toStepFailure } from "../../agent/model/step-failure.ts";

export interface LinuxMachineOptions {
  /**
   * The folder of Docker's images and containers, as far as it is known. Its free space is what
   * containers may write.
   */
  dockerRoot: () => string;
  /**
   * Percentages of the machine that are reserved for the system, Docker and the agent. The sets
   * book what Docker needs for their containers.
   */
  reservePercent: { cpu: number; memory: number; rootfs: number };
  /** Capacity and usage of the volumes; undefined while the host has none. */
  volumes?: () => MachineVolumes | undefined;
  /** Processors of the switch, on which no set runs. */
  switchCpus?: readonly number[] | undefined;
  /** Limits of the machine that its sets share. */
  limits?: () => readonly HostLimit[];
  /** The mount point of proc. */
  procRoot?: string;
}

export interface MachineVolumes {
  capacity(signal: AbortSignal): Promise<VolumeCapacity>;
  /** True if the volumes' blocks are on Docker's disk. Then containers cannot use their bytes. */
  areOnDockerRoot: boolean;
}

const capacityTimeoutMs = 10_000;

/**
 * CPU usage is smoothed over about this long. Without it, a start of a few seconds (of the agent,
 * of a set) would block placement on the host.
 */
const cpuSmoothingMs = 30_000;

interface CpuSample {
  atMs: number;
  busyTicks: number;
  totalTicks: number;
}

/**
 * Reads the kernel's counters, in some tens of microseconds and without the Docker API. CPU usage
 * is an exponential moving average over all processors. It starts with the load of the last minute.
 */
export function createLinuxMachine({
  dockerRoot,
  reservePercent,
  volumes,
  limits = () => [],
  switchCpus = [],
  procRoot = "/proc",
}: LinuxMachineOptions): MachinePort {
  const cpuMillisTotal = (cpus().length - switchCpus.length) * 1_000;
  let last: CpuSample | undefined;
  let busyShare = 0;
  const updateBusyShare = async () => {
    const sample = await sampleCpu(procRoot, switchCpus);
    if (!last) {
      // The threads of the switch always run.
      const load = Math.max(0, (await readLoad(procRoot)) - switchCpus.length);
      busyShare = Math.min(1, (load * 1_000) / cpuMillisTotal);
    } else if (sample.totalTicks > last.totalTicks) {
      const passedTicks = sample.totalTicks - last.totalTicks;
      const share = (sample.busyTicks - last.busyTicks) / passedTicks;
      const weight = 1 - Math.exp((last.atMs - sample.atMs) / cpuSmoothingMs);
      busyShare += weight * (Math.min(Math.max(share, 0), 1) - busyShare);
    }
    last = sample;
  };
  return {
    async measure(sets) {
      const volumesNow = volumes?.();
      const found = limits();
      const [memory, disk, capacity] = await Promise.all([
        readMemory(procRoot),
        readDisk(dockerRoot()),
        volumesNow ? measureVolumes(volumesNow) : { ...noCapacity, reason: null },
        updateBusyShare(),
      ]);
      const shared = volumesNow?.areOnDockerRoot === true ? capacity : noCapacity;
      const total: ResourceAmounts = {
        cpuMillis: cpuMillisTotal,
        memoryBytes: memory.totalBytes,
        volumeBytes: capacity.totalBytes,
        rootfsBytes: Math.max(0, disk.totalBytes - shared.totalBytes),
      };
      return {
        used: {
          cpuMillis: Math.round(busyShare * cpuMillisTotal),
          memoryBytes: memory.totalBytes - memory.availableBytes,
          volumeBytes: capacity.totalBytes - capacity.freeBytes,
          rootfsBytes: Math.max(0, disk.totalBytes - disk.freeBytes - shared.usedBytes),
        },
        allocatable: withoutReserve(total, reservePercent),
        reclaimableVolumeBytes: capacity.reclaimableBytes,
        trashedVolumeBytes: capacity.trashedBytes,
        volumeReason: capacity.reason ?? describeLimits(found, sets),
        setsMax: findTightest(found.filter(({ isHard }) => isHard))?.setsMax ?? null,
      };
    },
  };
}

/** The share of a limit from which on the host shows a reason. */
const warningShare = 0.9;

/** Describes a limit that is almost reached. One at which no more sets are placed comes first. */
function describeLimits(limits: readonly HostLimit[], sets: number): Reason | null {
  const reached = limits.filter(({ setsMax }) => sets >= Math.floor(setsMax * warningShare));
  const limit = findTightest(reached.filter(({ isHard }) => isHard)) ?? findTightest(reached);
  if (!limit) return null;
  const { name, value, setsMax, isHard, remedy } = limit;
  const excess = isHard
    ? ", and Berth places no more there"
    : "; above that, containers may fail to start";
  const text = `The host has ${formatCount(sets, "set")}. The limit of ${name} (${value}) is enough for about ${setsMax}${excess}. Remedy: ${remedy}.`;
  return { code: "sets-limited", text };
}

const noCapacity: VolumeCapacity = {
  totalBytes: 0,
  usedBytes: 0,
  freeBytes: 0,
  reclaimableBytes: 0,
  trashedBytes: 0,
  isMetadataFull: false,
  unreadable: [],
};

/**
 * Reports no capacity for volumes, with a reason, if the measurement fails. Other measurements
 * continue.
 */
async function measureVolumes(
  volumes: MachineVolumes,
): Promise<VolumeCapacity & { reason: Reason | null }> {
  const onLate = (): never => {
    throw new Error(`the capacity for volumes was not measured within ${capacityTimeoutMs} ms`);
  };
  const deadline = { timeoutMs: capacityTimeoutMs, onLate };
  try {
    const capacity = await runAbortable({ deadline }, (signal) => volumes.capacity(signal));
    const reason = capacity.isMetadataFull ? metadataFull : unreadableReason(capacity.unreadable);
    return { ...capacity, reason };
  } catch (error) {
    return { ...noCapacity, reason: toStepFailure(error, "observe").reason };
  }
}

const metadataFull: Reason = {
  code: "volume-no-room",
  text: "the metadata area of the volume group is almost full, so it accepts no new volumes. Purge trashed volumes. A larger area needs a new group (vgcreate --metadatasize 64m), which destroys all its volumes: drain the host first.",
};

function unreadableReason([first, ...others]: readonly string[]): Reason | null {
  if (first === undefined) return null;
  const more = others.length === 0 ? "" : ` (and of ${others.length} more volumes)`;
  const text = `the tags of volume ${first} cannot be read${more}`;
  return { code: "volume-unreadable", text: `${text}. Berth does not change these volumes.` };
}

/** The system, Docker, containerd and the agent, without containers; at most a quarter. */
const systemMemoryBytes = 256 * 2 ** 20;

function withoutReserve(
  total: ResourceAmounts,
  reserve: LinuxMachineOptions["reservePercent"],
): ResourceAmounts {
  const left = (amount: number, percent: number, least = 0) =>
    Math.max(0, Math.floor(Math.min((amount * (100 - percent)) / 100, amount - least)));
  const systemBytes = Math.min(systemMemoryBytes, total.memoryBytes / 4);
  return {
    cpuMillis: left(total.cpuMillis, reserve.cpu),
    memoryBytes: left(total.memoryBytes, reserve.memory, systemBytes),
    volumeBytes: total.volumeBytes,
    rootfsBytes: left(total.rootfsBytes, reserve.rootfs),
  };
}

/** Reads the line of all processors in /proc/stat, and subtracts those of `excluded` ones. */
async function sampleCpu(procRoot: string, excluded: readonly number[]): Promise<CpuSample> {
  const text = await readFile(`${procRoot}/stat`, "utf8");
  const all = readTicks(text, "cpu");
  const others = excluded.map((cpu) => readTicks(text, `cpu${cpu}`));
  const without = (key: "busy" | "total") =>
    others.reduce((left, each) => left - each[key], all[key]);
  return { atMs: performance.now(), busyTicks: without("busy"), totalTicks: without("total") };
}

/**
 * Reads a line of /proc/stat: user nice system idle iowait irq softirq steal (guest is within
 * user).
 */
function readTicks(stat: string, name: string): { busy: number; total: number } {
  const line = new RegExp(`^${name} +(.*)$`, "m").exec(stat)?.[1] ?? "";
  const fields = line.trim().split(/ +/).slice(0, 8).map(Number);
  const total = fields.reduce((sum, ticks) => sum + ticks, 0);
  return { busy: total - (fields[3] ?? 0) - (fields[4] ?? 0), total };
}

/** Mean number of running and runnable processes in the last minute. */
async function readLoad(procRoot: string): Promise<number> {
  const load = Number((await readFile(`${procRoot}/loadavg`, "utf8")).split(" ")[0]);
  return Number.isFinite(load) ? load : 0;
}

async function readMemory(
  procRoot: string,
): Promise<{ totalBytes: number; availableBytes: number }> {
  const text = await readFile(`${procRoot}/meminfo`, "utf8");
  const parseBytes = (name: string) => {
    const kilobytes = new RegExp(`^${name}: +(\\d+) kB$`, "m").exec(text)?.[1];
    if (kilobytes === undefined) throw new Error(`${procRoot}/meminfo has no ${name}`);
    return Number(kilobytes) * 1_024;
  };
  return { totalBytes: parseBytes("MemTotal"), availableBytes: parseBytes("MemAvailable") };
}

/** Free bytes are those of an ordinary process: the superuser's reserve counts as used. */
async function readDisk(folder: string): Promise<{ totalBytes: number; freeBytes: number }> {
  const disk = await statfs(folder);
  return { totalBytes: disk.blocks * disk.bsize, freeBytes: disk.bavail * disk.bsize };
}
