import { CommandError, runCommand } from "../../exec.ts";
import { volumeError } from "./block-store.ts";

const makeTimeoutMs = 120_000;
const growTimeoutMs = 300_000;
/** mkfs.xfs needs at least 300 MiB (xfsprogs 5.19). */
const xfsBytesMin = 300 * 2 ** 20;

export const fileSystemTypes = ["ext4", "xfs"] as const;
export type FileSystemType = (typeof fileSystemTypes)[number];

export interface NewFileSystem {
  device: string;
  sizeBytes: number;
  /**
   * True if the blocks belong to an image file. Then mkfs itself must write the zeros, because the
   * kernel would deallocate blocks.
   */
  isImage: boolean;
}

/**
 * Creates a file system of the wanted type, or ext4 if the device is too small for it. It discards
 * nothing. A discard would deallocate the blocks of an image. On a device it takes a third of a
 * second for each GiB on the test host, while the set waits.
 */
export async function makeFileSystem(
  wanted: FileSystemType,
  { device, sizeBytes, isImage }: NewFileSystem,
  signal: AbortSignal,
): Promise<void> {
  if (wanted === "xfs" && sizeBytes >= xfsBytesMin) {
    const args = ["-q", "-f", "-K", device];
    await run("mkfs.xfs", args, makeTimeoutMs, signal);
    return;
  }
  // On a disk, the kernel fills the tables later in the background, so mkfs takes tens of
  // milliseconds. In an image, the kernel would punch holes, so mkfs writes them itself, which is
  // as fast. The superuser has no reserve: a set gets the whole size. Checksums contain the file
  // system's id, so they distinguish its journal from an earlier one in the same blocks. Below
  // 512 MiB, mkfs would use blocks of 1 KiB, which the volume keeps when it grows. With those, the
  // ext4 of Linux 7.2 overwrites data on a file system that was full (seen on loop and LVM).
  const features = "64bit,metadata_csum";
  const extended = `nodiscard,lazy_itable_init=${isImage ? 0 : 1},lazy_journal_init=1`;
  await run(
    "mkfs.ext4",
    ["-q", "-F", "-m", "0", "-b", "4096", "-O", features, "-E", extended, "--", device],
    makeTimeoutMs,
    signal,
  );
}

/** Grows a mounted file system to its device. Does nothing if it has that size. */
export async function growFileSystem(
  { device, mountPoint, type }: { device: string; mountPoint: string; type: string | undefined },
  signal: AbortSignal,
): Promise<void> {
  switch (type) {
    case "ext4":
      return run("resize2fs", ["--", device], growTimeoutMs, signal);
    case "xfs":
      return run("xfs_growfs", ["-d", mountPoint], growTimeoutMs, signal);
    default:
      throw volumeError(
        "volume-failed",
        `${device} has no file system that supports online growth`,
        {
          temporary: false,
        },
      );
  }
}

/** Treats a failed program as temporary: it may have lacked memory, a device, or time. */
async function run(
  program: string,
  args: readonly string[],
  timeoutMs: number,
  signal: AbortSignal,
): Promise<void> {
  try {
    await runCommand(`/usr/sbin/${program}`, args, { timeoutMs, signal });
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    throw volumeError("volume-failed", error.message, { temporary: true, cause: error });
  }
}
