import { execFile } from "node:child_process";
import { promisify } from "node:util";

const run = promisify(execFile);
export const extentBytes = 4 * 2 ** 20;
/** The disk that scripts/uml gives the test host. */
export const disk = "/dev/ubdb";

/**
 * Creates a volume group of exactly this size, a multiple of its extents. It destroys everything on
 * the disk.
 */
export async function makeVolumeGroup(name: string, totalBytes: number): Promise<void> {
  await run("vgremove", ["-f", "-y", name]).catch(() => undefined); // none yet
  await run("pvremove", ["-ff", "-y", disk]).catch(() => undefined);
  // LVM reserves the first mebibyte.
  const size = `${totalBytes + extentBytes}b`;
  await run("pvcreate", ["-ff", "-y", "--setphysicalvolumesize", size, disk]);
  await run("vgcreate", ["-s", `${extentBytes}b`, name, disk]);
}
