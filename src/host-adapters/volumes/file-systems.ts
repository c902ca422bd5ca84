import { access, constants } from "node:fs/promises";
import { assert } from "../../lib/assert.ts";
import { CommandError, runCommand } from "../exec.ts";
import { volumeError } from "./block-store.ts";

const detectTimeoutMs = 20_000;
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
 * Rejects if a program that creates a file system is missing. Small volumes are ext4 in each case.
 */
export async function checkFileSystemPrograms(wanted: FileSystemType): Promise<void> {
  for (const type of new Set<FileSystemType>(["ext4", wanted])) {
    const program = `/usr/sbin/mkfs.${type}`;
    await access(program, constants.X_OK).catch((error: unknown) => {
      const name = type === "ext4" ? "e2fsprogs" : "xfsprogs";
      throw volumeError(
        "volume-failed",
        `${program} is missing, so the host can create no volume. Install ${name}.`,
        { temporary: true, cause: error },
      );
    });
  }
}

/**
 * Creates a file system of the wanted type, or ext4 if the device is too small for it. It discards
 * nothing. A discard would deallocate the blocks of an image. On a device it takes a third of a
 * second for each GiB on the test host, while the set waits. Returns the created type.
 */
export async function makeFileSystem(
  wanted: FileSystemType,
  { device, sizeBytes, isImage }: NewFileSystem,
  signal: AbortSignal,
): Promise<FileSystemType> {
  if (wanted === "xfs" && sizeBytes >= xfsBytesMin) {
    const args = ["-q", "-f", "-K", device];
    await run("mkfs.xfs", args, makeTimeoutMs, signal);
    return "xfs";
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
  return "ext4";
}

/**
 * Detects the type of a file system that `makeFileSystem` created. It looks for these types alone,
 * at the places that only the kernel writes, whatever other signatures the blocks contain. A
 * program of its own reads the device, because a read in this process could hang with it.
 */
export async function detectFileSystem(
  device: string,
  signal: AbortSignal,
): Promise<FileSystemType> {
  const args = ["-p", "-n", fileSystemTypes.join(), "-o", "value", "-s", "TYPE", "--", device];
  const found = (await run("blkid", args, detectTimeoutMs, signal)).trim();
  const type = fileSystemTypes.find((candidate) => candidate === found);
  if (type) return type;
  throw unknownFileSystem(device);
}

export interface MountedFileSystem {
  device: string;
  mountPoint: string;
  type: string | undefined;
}

/** Grows a mounted file system to its device. Does nothing if it has that size. */
export async function growFileSystem(
  { device, mountPoint, type }: MountedFileSystem,
  signal: AbortSignal,
): Promise<void> {
  switch (type) {
    case "ext4":
      await run("resize2fs", ["--", device], growTimeoutMs, signal);
      return;
    case "xfs":
      await run("xfs_growfs", ["-d", mountPoint], growTimeoutMs, signal);
      return;
    default:
      throw unknownFileSystem(device);
  }
}

/** Measures the part of its device that a mounted file system uses, in bytes. */
export async function measureFileSystem(
  { device, mountPoint, type }: MountedFileSystem,
  signal: AbortSignal,
): Promise<number> {
  switch (type) {
    case "ext4": {
      // The device's page cache has the superblock as the kernel last changed it.
      const text = await run("dumpe2fs", ["-h", "--", device], detectTimeoutMs, signal);
      return countBytes(text, [/^Block count: +(\d+)$/m, /^Block size: +(\d+)$/m]);
    }
    case "xfs": {
      const text = await run("xfs_info", [mountPoint], detectTimeoutMs, signal);
      return countBytes(text, [/^data .* blocks=(\d+)/m, /^data .* bsize=(\d+)/m]);
    }
    default:
      throw unknownFileSystem(device);
  }
}

/** Multiplies the two numbers that the patterns find in the output of a program. */
function countBytes(text: string, patterns: readonly [RegExp, RegExp]): number {
  const [count, size] = patterns.map((pattern) => Number(pattern.exec(text)?.[1]));
  const bytes = (count ?? NaN) * (size ?? NaN);
  assert(Number.isSafeInteger(bytes) && bytes > 0, "a file system has a size");
  return bytes;
}

function unknownFileSystem(device: string): Error {
  const text = `${device} has neither of the file systems ${fileSystemTypes.join(" and ")}`;
  return volumeError("volume-failed", text, { temporary: true });
}

/** Treats a failed program as temporary: it may have lacked memory, a device, or time. */
async function run(
  program: string,
  args: readonly string[],
  timeoutMs: number,
  signal: AbortSignal,
): Promise<string> {
  try {
    return await runCommand(`/usr/sbin/${program}`, args, { timeoutMs, signal });
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    throw volumeError("volume-failed", error.message, { temporary: true, cause: error });
  }
}
