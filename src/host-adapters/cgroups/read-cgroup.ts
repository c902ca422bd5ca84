import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Limits } from "../../agent/model/local-set.ts";
import type { MemoryEvents } from "../../agent/ports/cgroup-port.ts";
import { CPU_PERIOD_US, toCpuShares } from "../../agent/model/set-limits.ts";

/**
 * Reads small files of the kernel, periodically for every set. It reads them synchronously, at
 * about 15 us a file. Reads through libuv's threads cost ten times as much, and would be most of
 * the work of an idle agent.
 */

/** Length of the ids that Docker shows to users. */
const shortIdLength = 12;

/**
 * The path of a cgroup below the hierarchies of its controllers (version 1), or in the only
 * hierarchy (version 2).
 */
export interface CgroupPlace {
  root: string;
  version: 1 | 2;
  path: string;
}

/**
 * Reads a cgroup's limits from a few small files; undefined if they do not exist. A limit that is
 * not set is Infinity.
 */
export function readLimits(place: CgroupPlace): Limits | undefined {
  const isFirst = place.version === 1;
  const cpu = readCgroupFile(place, "cpu", isFirst ? "cpu.cfs_quota_us" : "cpu.max");
  const share = readCgroupFile(place, "cpu", isFirst ? "cpu.shares" : "cpu.weight");
  const memory = readCgroupFile(place, "memory", isFirst ? "memory.limit_in_bytes" : "memory.max");
  if (cpu === undefined || share === undefined || memory === undefined) return undefined;
  const reserved = readCgroupFile(
    place,
    "memory",
    isFirst ? "memory.soft_limit_in_bytes" : "memory.low",
  );
  const [quota = "", ownPeriod] = cpu.split(" ");
  const period = isFirst ? readCgroupFile(place, "cpu", "cpu.cfs_period_us") : ownPeriod;
  const isUnlimited = quota === "max" || quota === "-1";
  return {
    cpuQuotaUs: isUnlimited
      ? Infinity
      : (Number(quota) * CPU_PERIOD_US) / Number(period ?? CPU_PERIOD_US),
    cpuShares: isFirst ? Number(share) : toCpuShares(Number(share)),
    cpuWeight: isFirst ? undefined : Number(share),
    memoryBytes: toLimit(memory) ?? Infinity,
    reservationBytes: toLimit(reserved),
    pidsMax: toLimit(readCgroupFile(place, "pids", "pids.max")),
  };
}

function toLimit(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  return text === "max" ? Infinity : Number(text);
}

/** Undefined if the cgroup does not exist. */
export function readMemoryEvents(place: CgroupPlace): MemoryEvents | undefined {
  const [file, peakFile] =
    place.version === 1
      ? (["memory.oom_control", "memory.max_usage_in_bytes"] as const)
      : (["memory.events", "memory.peak"] as const);
  const events = readCgroupFile(place, "memory", file);
  const peak = readCgroupFile(place, "memory", peakFile);
  if (events === undefined) return undefined;
  return {
    oomKills: Number(/^oom_kill (\d+)$/m.exec(events)?.[1] ?? 0),
    peakBytes: peak === undefined ? undefined : Number(peak),
  };
}

/** Ids of the cgroup's processes, in this process's namespace. */
export function readProcesses(place: CgroupPlace): number[] {
  const text = readCgroupFile(place, "memory", "cgroup.procs") ?? "";
  // The kernel writes 0 for a process that this namespace does not contain.
  return text
    .split("\n")
    .map(Number)
    .filter((pid) => pid > 0);
}

/** All memory that the kernel charges, page cache included. */
export function readMemoryCharge(place: CgroupPlace): number | undefined {
  const file = place.version === 1 ? "memory.usage_in_bytes" : "memory.current";
  const charged = readCgroupFile(place, "memory", file);
  return charged === undefined ? undefined : Number(charged);
}

/** Memory that the kernel cannot reclaim by dropping page cache. */
export function readHeldMemory(place: CgroupPlace): number | undefined {
  const charged = readMemoryCharge(place);
  const stat = readCgroupFile(place, "memory", "memory.stat");
  if (charged === undefined || stat === undefined) return undefined;
  // In version 1, values without "total" exclude the containers.
  const pattern =
    place.version === 1 ? /^total_(?:in)?active_file (\d+)$/gm : /^(?:in)?active_file (\d+)$/gm;
  const cache = [...stat.matchAll(pattern)];
  return cache.reduce((left, [, bytes]) => left - Number(bytes), charged);
}

/**
 * Memory of a cgroup and of the containers in it. `idOf` extracts the Docker id from a folder's
 * name.
 */
export function readMemoryUsage(
  place: CgroupPlace,
  setId: string,
  idOf: (name: string) => string | undefined,
): Record<string, number> {
  const usage: Record<string, number> = {};
  const note = (key: string, of: CgroupPlace) => {
    const heldBytes = readHeldMemory(of);
    if (heldBytes !== undefined) usage[key] = Math.max(0, heldBytes);
  };
  note(setId, place);
  for (const name of list(place)) {
    const dockerId = idOf(name);
    if (dockerId !== undefined)
      note(dockerId.slice(0, shortIdLength), { ...place, path: join(place.path, name) });
  }
  return usage;
}

function list({ root, version, path }: CgroupPlace): string[] {
  try {
    return readdirSync(join(root, version === 1 ? "memory" : "", path));
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}

function isMissing(error: unknown): boolean {
  const { code } = error as { code?: unknown };
  return code === "ENOENT" || code === "ENODEV"; // removed, or being removed
}

/** Undefined if the file does not exist. */
export function readCgroupFile(
  { root, version, path }: CgroupPlace,
  controller: string,
  file: string,
): string | undefined {
  const hierarchy = version === 1 ? controller : "";
  try {
    return readFileSync(join(root, hierarchy, path, file), "utf8").trim();
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}
