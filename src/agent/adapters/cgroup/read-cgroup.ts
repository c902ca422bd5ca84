import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Limits } from "../../ports/set-port.ts";
import { CPU_PERIOD_US, toCpuShares } from "../../set-limits.ts";

/**
 * All that is read here are the kernel's own small files, for every set from time to time. They are read at once and not by way
 * of libuv's threads, which costs ten times as much and would be most of what an idle agent does: some 15 us a file.
 */

/** Where a cgroup is: below the hierarchies of its controllers (version 1), or in the one there is. */
export interface CgroupPlace {
  root: string;
  version: 1 | 2;
  path: string;
}

/** Three or four small files; undefined when they are not there. A limit that is not set is infinite. */
export function readLimits(place: CgroupPlace): Limits | undefined {
  const [cpu, share, memory, period] =
    place.version === 1
      ? [
          read(place, "cpu", "cpu.cfs_quota_us"),
          read(place, "cpu", "cpu.shares"),
          read(place, "memory", "memory.limit_in_bytes"),
          read(place, "cpu", "cpu.cfs_period_us"),
        ]
      : [
          read(place, "cpu", "cpu.max"),
          read(place, "cpu", "cpu.weight"),
          read(place, "memory", "memory.max"),
        ];
  if (cpu === undefined || share === undefined || memory === undefined) return undefined;
  const [quota = "", ownPeriod] = cpu.split(" ");
  const periodUs = Number(period ?? ownPeriod ?? CPU_PERIOD_US);
  const isUnlimited = quota === "max" || quota === "-1";
  return {
    cpuQuotaUs: isUnlimited ? Infinity : (Number(quota) * CPU_PERIOD_US) / periodUs,
    cpuShares: place.version === 1 ? Number(share) : toCpuShares(Number(share)),
    memoryBytes: memory === "max" ? Infinity : Number(memory),
  };
}

/** What a cgroup's memory has been through since it was made. */
export interface MemoryEvents {
  /** Processes that were killed because it had no memory left. */
  oomKills: number;
  /** The most that was charged, page cache included; undefined where the kernel does not say. */
  peakBytes: number | undefined;
}

/** Undefined when the cgroup is not there. */
export function readMemoryEvents(place: CgroupPlace): MemoryEvents | undefined {
  const [file, peakFile] =
    place.version === 1
      ? (["memory.oom_control", "memory.max_usage_in_bytes"] as const)
      : (["memory.events", "memory.peak"] as const);
  const events = read(place, "memory", file);
  const peak = read(place, "memory", peakFile);
  if (events === undefined) return undefined;
  return {
    oomKills: Number(/^oom_kill (\d+)$/m.exec(events)?.[1] ?? 0),
    peakBytes: peak === undefined ? undefined : Number(peak),
  };
}

/** All that the kernel charges, page cache included. */
export function readMemoryCharge(place: CgroupPlace): number | undefined {
  const file = place.version === 1 ? "memory.usage_in_bytes" : "memory.current";
  const charged = read(place, "memory", file);
  return charged === undefined ? undefined : Number(charged);
}

/** What the kernel cannot take back by dropping page cache. */
export function readHeldMemory(place: CgroupPlace): number | undefined {
  const charged = readMemoryCharge(place);
  const stat = read(place, "memory", "memory.stat");
  if (charged === undefined || stat === undefined) return undefined;
  // In version 1 the numbers without "total" leave the containers out.
  const pattern =
    place.version === 1 ? /^total_(?:in)?active_file (\d+)$/gm : /^(?:in)?active_file (\d+)$/gm;
  const cache = [...stat.matchAll(pattern)];
  return cache.reduce((left, [, bytes]) => left - Number(bytes), charged);
}

/** What the kernel charges, without the page cache that it would drop first. */
export function readMemoryUse(place: CgroupPlace): number | undefined {
  const [file, inactive] =
    place.version === 1
      ? (["memory.usage_in_bytes", "total_inactive_file"] as const)
      : (["memory.current", "inactive_file"] as const);
  const used = read(place, "memory", file);
  const stat = read(place, "memory", "memory.stat");
  if (used === undefined || stat === undefined) return undefined;
  const cache = new RegExp(`^${inactive} (\\d+)$`, "m").exec(stat)?.[1] ?? "0";
  return Math.max(0, Number(used) - Number(cache));
}

function read(
  { root, version, path }: CgroupPlace,
  controller: string,
  file: string,
): string | undefined {
  const hierarchy = version === 1 ? controller : "";
  try {
    return readFileSync(join(root, hierarchy, path, file), "utf8").trim();
  } catch (error) {
    const code = (error as { code?: unknown }).code;
    if (code === "ENOENT" || code === "ENODEV") return undefined; // removed, or being removed
    throw error;
  }
}
