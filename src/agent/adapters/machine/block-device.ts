import { readFile, stat } from "node:fs/promises";

const sysfsDefault = "/sys/dev/block";

/** A device's numbers as the kernel's files write them, such as "254:0". */
export function deviceNumbers(device: number): string {
  // 12 bits of major and 20 of minor, as the kernel has them: what stat(2) puts above them is 0.
  return `${(device >> 8) & 0xfff}:${(device & 0xff) | ((device >> 12) & 0xfff00)}`;
}

/**
 * Numbers of the block device that a folder's file system is on; of the whole disk where that is a partition. Undefined when there
 * is no such folder, or it is on none: btrfs, overlay and file systems of the network have numbers that are no device's.
 */
export async function blockDeviceOf(
  folder: string,
  sysfs = sysfsDefault,
): Promise<string | undefined> {
  const found = await stat(folder).catch(() => undefined);
  if (!found) return undefined;
  const device = `${sysfs}/${deviceNumbers(found.dev)}`;
  // A link: its parent folder, which is the disk's, is the one of where it leads to.
  const read = (name: string) => readFile(`${device}/${name}`, "utf8").catch(() => undefined);
  const isPartition = (await read("partition")) !== undefined;
  return (await read(isPartition ? "../dev" : "dev"))?.trim();
}
