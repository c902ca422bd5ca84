import { join } from "node:path";
import type { IoLimits } from "../../contracts/api/set-template.ts";
import { ioLimitNames } from "../../agent/model/set-limits.ts";
import type { DeviceIo } from "../../agent/ports/cgroup-port.ts";
import { finiteOr } from "./finite-or.ts";
import { type CgroupPlace, readCgroupFile } from "./read-cgroup.ts";
import { writeExisting } from "./write-existing.ts";

/** Names of the limits: in version 1 (one file each), and in version 2 (all in one file). */
const names = {
  readBytesPerSecond: ["blkio.throttle.read_bps_device", "rbps"],
  writeBytesPerSecond: ["blkio.throttle.write_bps_device", "wbps"],
  readOpsPerSecond: ["blkio.throttle.read_iops_device", "riops"],
  writeOpsPerSecond: ["blkio.throttle.write_iops_device", "wiops"],
} as const satisfies Record<keyof IoLimits, readonly [string, string]>;

/**
 * Reads a cgroup's limits, one entry for each device; no entries if the cgroup does not exist.
 * Undefined if the kernel has no such limits. A controller that is not delegated yet (version 2)
 * limits nothing.
 */
export function readIo(place: CgroupPlace, devices: readonly string[]): IoLimits[] | undefined {
  return place.version === 1 ? readVersion1(place, devices) : readVersion2(place, devices);
}

function readVersion1(place: CgroupPlace, devices: readonly string[]): IoLimits[] | undefined {
  const read = (of: CgroupPlace, name: keyof IoLimits) =>
    readCgroupFile(of, "blkio", names[name][0]);
  if (read(place, "readBytesPerSecond") === undefined) {
    const isOffered = read({ ...place, path: "" }, "readBytesPerSecond") !== undefined;
    return isOffered ? [] : undefined;
  }
  const texts = ioLimitNames.map((name) => [name, read(place, name) ?? ""] as const);
  return devices.map((device) =>
    Object.fromEntries(texts.map(([name, text]) => [name, valueIn(text, `${device} `)])),
  );
}

function readVersion2(place: CgroupPlace, devices: readonly string[]): IoLimits[] | undefined {
  const text = readCgroupFile(place, "io", "io.max");
  if (text === undefined) {
    const isDelegated = readCgroupFile(place, "io", "io.stat") !== undefined;
    const controllers = readCgroupFile({ ...place, path: "" }, "io", "cgroup.controllers")?.split(
      " ",
    );
    if (isDelegated || !controllers?.includes("io")) return undefined;
  }
  return devices.map((device) =>
    Object.fromEntries(
      ioLimitNames.map((name) => [
        name,
        valueIn(text ?? "", `${device} (?:.* )?${names[name][1]}=`),
      ]),
    ),
  );
}

/** A device without a line, or with "max", has no limit. */
function valueIn(text: string, before: string): number {
  const value = new RegExp(`^${before}(\\d+)`, "m").exec(text)?.[1];
  return value === undefined ? Infinity : Number(value);
}

/** Writes the limits of a cgroup, and skips files that the kernel does not have (see `readIo`). */
export async function writeIo(place: CgroupPlace, { devices, limits }: DeviceIo): Promise<void> {
  const { root, version, path } = place;
  const write = (hierarchy: string, file: string, text: string) =>
    writeExisting(join(root, hierarchy, path, file), text);
  for (const device of devices) {
    if (version === 2) {
      const values = ioLimitNames.map(
        (name) => `${names[name][1]}=${finiteOr("max", limits[name])}`,
      );
      await write("", "io.max", `${device} ${values.join(" ")}`);
      continue;
    }
    for (const name of ioLimitNames)
      await write("blkio", names[name][0], `${device} ${finiteOr("0", limits[name])}`);
  }
}
