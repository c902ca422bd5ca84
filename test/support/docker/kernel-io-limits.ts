import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { IoLimits } from "../../../src/contracts/api/set-template.ts";

const cgroupRoot = "/sys/fs/cgroup";
const kernelNames = {
  readBytesPerSecond: ["read_bps", "rbps"],
  writeBytesPerSecond: ["write_bps", "wbps"],
  readOpsPerSecond: ["read_iops", "riops"],
  writeOpsPerSecond: ["write_iops", "wiops"],
} as const;

/**
 * The kernel's I/O limits of a container's process on each device, by device numbers. They are
 * limits of its own cgroup (version 1) or of its set's (version 2).
 */
export async function readKernelIoLimits(pid: number): Promise<Record<string, IoLimits>> {
  const lines = (await readFile(`/proc/${pid}/cgroup`, "utf8")).trim().split("\n");
  const hierarchies = lines.map((line) => line.split(":"));
  const isVersion2 = hierarchies.length === 1;
  const own = hierarchies.find(([, names]) => isVersion2 || names === "blkio")?.[2] ?? "";
  const limits: Record<string, IoLimits> = {};
  for (const [name, [first, second]] of Object.entries(kernelNames)) {
    const file = isVersion2
      ? join(cgroupRoot, own, "../io.max")
      : join(cgroupRoot, "blkio", own, `blkio.throttle.${first}_device`);
    const pattern = isVersion2
      ? new RegExp(`^(\\d+:\\d+) .*\\b${second}=(\\d+)`, "gm")
      : /^(\d+:\d+) (\d+)$/gm;
    for (const [, device = "", value] of (await readFile(file, "utf8")).matchAll(pattern))
      limits[device] = { ...limits[device], [name]: Number(value) };
  }
  return limits;
}
