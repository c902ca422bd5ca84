import { readFile, stat } from "node:fs/promises";

const sysfsDefault = "/sys/dev/block";

/** Formats a device's numbers as the kernel does, such as "254:0". */
export function deviceNumbers(device: number): string {
  // The kernel has 12 bits of major and 20 bits of minor. Higher bits of stat(2) are 0.
  return `${(device >> 8) & 0xfff}:${(device & 0xff) | ((device >> 12) & 0xfff00)}`;
}

/**
 * Numbers of the block device under a folder's file system, and of the whole disk if that device is
 * a partition. Undefined for a missing folder, and for btrfs, overlay and network file systems,
 * whose numbers belong to no device.
 */
export async function findBlockDevice(
  folder: string,
  sysfs = sysfsDefault,
): Promise<string | undefined> {
  const found = await stat(folder).catch(() => undefined);
  if (!found) return undefined;
  const device = `${sysfs}/${deviceNumbers(found.dev)}`;
  // A link into sysfs. Its parent folder resolves to the folder of the whole disk.
  const read = (name: string) => readFile(`${device}/${name}`, "utf8").catch(() => undefined);
  const isPartition = (await read("partition")) !== undefined;
  return (await read(isPartition ? "../dev" : "dev"))?.trim();
}
