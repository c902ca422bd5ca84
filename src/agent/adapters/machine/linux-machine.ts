import { readFile, statfs } from "node:fs/promises";
import { cpus } from "node:os";
import { setTimeout as delay } from "node:timers/promises";
import type { Reason, ResourceAmounts } from "../../../contracts/common/primitives.ts";
import type { MachinePort } from "../../ports/machine-port.ts";
import type { VolumeRoom } from "../../ports/volume-port.ts";
import { failureOf } from "../../step-failure.ts";

export interface LinuxMachineOptions {
  /** Where Docker keeps images and containers, as far as is known; what is free there is what containers may write. */
  dockerRoot: () => string;
  /** Shares that sets may not have: for the system, Docker and the agent. */
  reservePercent: { cpu: number; memory: number; rootfs: number };
  /** What volumes take and may take; undefined while there are none. */
  volumes?: () => VolumesOfMachine | undefined;
  /** Where proc is mounted. */
  procRoot?: string;
}

export interface VolumesOfMachine {
  room(signal: AbortSignal): Promise<VolumeRoom>;
  /** Their blocks are on Docker's disk: what is theirs is not the containers'. */
  areOnDockerRoot: boolean;
}

const roomTimeoutMs = 10_000;

/**
 * CPU use is smoothed over about this long: what counts for placement is what lasts, and a start of a few seconds (of the
 * agent, of a set) would otherwise close the host for the next sets.
 */
const cpuSmoothingMs = 30_000;

interface CpuSample {
  atMs: number;
  busyTicks: number;
  totalTicks: number;
}

/**
 * Reads what the kernel counts: no Docker call, some tens of microseconds. CPU is what all processors did, as a mean that
 * forgets (see above), begun from the load of the last minute.
 */
export function createLinuxMachine({
  dockerRoot,
  reservePercent,
  volumes,
  procRoot = "/proc",
}: LinuxMachineOptions): MachinePort {
  const cpuMillisTotal = cpus().length * 1_000;
  let last: CpuSample | undefined;
  let busyShare = 0;
  const updateBusyShare = async () => {
    const sample = await sampleCpu(procRoot);
    if (!last) {
      busyShare = Math.min(1, ((await readLoad(procRoot)) * 1_000) / cpuMillisTotal);
    } else if (sample.totalTicks > last.totalTicks) {
      const passedTicks = sample.totalTicks - last.totalTicks;
      const share = (sample.busyTicks - last.busyTicks) / passedTicks;
      const weight = 1 - Math.exp((last.atMs - sample.atMs) / cpuSmoothingMs);
      busyShare += weight * (Math.min(Math.max(share, 0), 1) - busyShare);
    }
    last = sample;
  };
  return {
    async measure() {
      const volumesNow = volumes?.();
      const [memory, disk, room] = await Promise.all([
        readMemory(procRoot),
        readDisk(dockerRoot()),
        volumesNow ? measureVolumes(volumesNow) : { ...noRoom, reason: null },
        updateBusyShare(),
      ]);
      const shared = volumesNow?.areOnDockerRoot === true ? room : noRoom;
      const total: ResourceAmounts = {
        cpuMillis: cpuMillisTotal,
        memoryBytes: memory.totalBytes,
        volumeBytes: room.totalBytes,
        rootfsBytes: Math.max(0, disk.totalBytes - shared.totalBytes),
      };
      return {
        used: {
          cpuMillis: Math.round(busyShare * cpuMillisTotal),
          memoryBytes: memory.totalBytes - memory.availableBytes,
          volumeBytes: room.totalBytes - room.freeBytes,
          rootfsBytes: Math.max(0, disk.totalBytes - disk.freeBytes - shared.usedBytes),
        },
        allocatable: withoutReserve(total, reservePercent),
        reclaimableVolumeBytes: room.reclaimableBytes,
        trashedVolumeBytes: room.trashedBytes,
        volumeReason: room.reason,
      };
    },
  };
}

const noRoom: VolumeRoom = {
  totalBytes: 0,
  usedBytes: 0,
  freeBytes: 0,
  reclaimableBytes: 0,
  trashedBytes: 0,
  unreadable: [],
};

/** A host whose volumes cannot be measured has no room for more, says why, and goes on with everything else. */
async function measureVolumes(
  volumes: VolumesOfMachine,
): Promise<VolumeRoom & { reason: Reason | null }> {
  const late = new AbortController();
  try {
    const room = await Promise.race([
      volumes.room(AbortSignal.timeout(roomTimeoutMs)),
      delay(roomTimeoutMs, undefined, { signal: late.signal, ref: false }).then(() => {
        throw new Error(`the room for volumes was not measured within ${roomTimeoutMs} ms`);
      }),
    ]);
    return { ...room, reason: unreadableReason(room.unreadable) };
  } catch (error) {
    return { ...noRoom, reason: failureOf(error, "observe").reason };
  } finally {
    late.abort();
  }
}

function unreadableReason([first, ...others]: readonly string[]): Reason | null {
  if (first === undefined) return null;
  const more = others.length === 0 ? "" : `, nor those of ${others.length} more`;
  const text = `the tags of volume ${first} cannot be read${more}`;
  return { code: "volume-unreadable", text: `${text}: what is theirs is left alone` };
}

function withoutReserve(
  total: ResourceAmounts,
  reserve: LinuxMachineOptions["reservePercent"],
): ResourceAmounts {
  const left = (amount: number, percent: number) => Math.floor((amount * (100 - percent)) / 100);
  return {
    cpuMillis: left(total.cpuMillis, reserve.cpu),
    memoryBytes: left(total.memoryBytes, reserve.memory),
    volumeBytes: total.volumeBytes,
    rootfsBytes: left(total.rootfsBytes, reserve.rootfs),
  };
}

/** The first line of /proc/stat: user nice system idle iowait irq softirq steal (guest is within user). */
async function sampleCpu(procRoot: string): Promise<CpuSample> {
  const text = await readFile(`${procRoot}/stat`, "utf8");
  const fields = /^cpu +(.*)$/m.exec(text)?.[1]?.trim().split(/ +/).slice(0, 8).map(Number) ?? [];
  const totalTicks = fields.reduce((sum, ticks) => sum + ticks, 0);
  const idleTicks = (fields[3] ?? 0) + (fields[4] ?? 0);
  return { atMs: performance.now(), busyTicks: totalTicks - idleTicks, totalTicks };
}

/** Processes that ran or waited to run, as a mean of the last minute. */
async function readLoad(procRoot: string): Promise<number> {
  const load = Number((await readFile(`${procRoot}/loadavg`, "utf8")).split(" ")[0]);
  return Number.isFinite(load) ? load : 0;
}

async function readMemory(
  procRoot: string,
): Promise<{ totalBytes: number; availableBytes: number }> {
  const text = await readFile(`${procRoot}/meminfo`, "utf8");
  const bytesOf = (name: string) => {
    const kilobytes = new RegExp(`^${name}: +(\\d+) kB$`, "m").exec(text)?.[1];
    if (kilobytes === undefined) throw new Error(`${procRoot}/meminfo has no ${name}`);
    return Number(kilobytes) * 1_024;
  };
  return { totalBytes: bytesOf("MemTotal"), availableBytes: bytesOf("MemAvailable") };
}

/** Free is what an ordinary process may still write: the superuser's reserve counts as used. */
async function readDisk(folder: string): Promise<{ totalBytes: number; freeBytes: number }> {
  const disk = await statfs(folder);
  return { totalBytes: disk.blocks * disk.bsize, freeBytes: disk.bavail * disk.bsize };
}
