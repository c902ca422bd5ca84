import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { CPU_PERIOD_US, type Limits } from "../../set-limits.ts";

/** Where a cgroup is: below the hierarchies of its controllers (version 1), or in the one there is. */
export interface CgroupPlace {
  root: string;
  version: 1 | 2;
  path: string;
}

/** Two or three small files; undefined when they are not there. A limit that is not set is infinite. */
export async function readLimits(place: CgroupPlace): Promise<Limits | undefined> {
  const [cpu, period, memory] =
    place.version === 1
      ? await Promise.all([
          read(place, "cpu", "cpu.cfs_quota_us"),
          read(place, "cpu", "cpu.cfs_period_us"),
          read(place, "memory", "memory.limit_in_bytes"),
        ])
      : [await read(place, "", "cpu.max"), undefined, await read(place, "", "memory.max")];
  if (cpu === undefined || memory === undefined) return undefined;
  const [quota = "", ownPeriod] = cpu.split(" ");
  const periodUs = Number(period ?? ownPeriod ?? CPU_PERIOD_US);
  const isUnlimited = quota === "max" || quota === "-1";
  return {
    cpuQuotaUs: isUnlimited ? Infinity : (Number(quota) * CPU_PERIOD_US) / periodUs,
    memoryBytes: memory === "max" ? Infinity : Number(memory),
  };
}

/** What the kernel charges, without the page cache that it would drop first. */
export async function readMemoryUse(place: CgroupPlace): Promise<number | undefined> {
  const [file, inactive] =
    place.version === 1
      ? (["memory.usage_in_bytes", "total_inactive_file"] as const)
      : (["memory.current", "inactive_file"] as const);
  const [used, stat] = await Promise.all([
    read(place, "memory", file),
    read(place, "memory", "memory.stat"),
  ]);
  if (used === undefined || stat === undefined) return undefined;
  const cache = new RegExp(`^${inactive} (\\d+)$`, "m").exec(stat)?.[1] ?? "0";
  return Math.max(0, Number(used) - Number(cache));
}

async function read(
  { root, version, path }: CgroupPlace,
  controller: string,
  file: string,
): Promise<string | undefined> {
  const hierarchy = version === 1 ? controller : "";
  try {
    return (await readFile(join(root, hierarchy, path, file), "utf8")).trim();
  } catch (error) {
    const code = (error as { code?: unknown }).code;
    if (code === "ENOENT" || code === "ENODEV") return undefined; // removed, or being removed
    throw error;
  }
}
