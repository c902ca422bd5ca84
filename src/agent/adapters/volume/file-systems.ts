import { CommandError, runCommand } from "../../exec.ts";
import { volumeError } from "./block-store.ts";

const makeTimeoutMs = 120_000;
const growTimeoutMs = 300_000;
/** mkfs.xfs makes none below 300 MiB (xfsprogs 5.19). */
const xfsBytesMin = 300 * 2 ** 20;

export const fileSystemTypes = ["ext4", "xfs"] as const;
export type FileSystemType = (typeof fileSystemTypes)[number];

export interface NewFileSystem {
  device: string;
  sizeBytes: number;
  /** Its blocks are a file's, which stay allocated: what is to be zeroed is so now, by this program, which keeps them. */
  isImage: boolean;
}

/**
 * Makes a file system of this type, or ext4 where the device is too small for it. Nothing is discarded, which takes the longer
 * the larger a device is (a third of a second for each GiB on the test host) while a set waits to start; and of an image
 * it would give the blocks away.
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
  // On a disk, tables are filled in later, in the background, so that it takes tens of milliseconds: by the kernel, which punches
  // holes into an image for it, where it takes no time anyway. No blocks are kept for the superuser: the size is what the set gets.
  // Checksums, with the file system's own id in them, tell its journal from that of an earlier one in these blocks.
  const features = "64bit,metadata_csum";
  const extended = `nodiscard,lazy_itable_init=${isImage ? 0 : 1},lazy_journal_init=1`;
  await run(
    "mkfs.ext4",
    ["-q", "-F", "-m", "0", "-O", features, "-E", extended, "--", device],
    makeTimeoutMs,
    signal,
  );
}

/** Has a mounted file system fill its device. Nothing to do when it does. */
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
      throw volumeError("volume-failed", `${device} has no file system that can grow`, {
        temporary: false,
      });
  }
}

/** A program that fails may do so for want of memory, a device, or time: it is tried again. */
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
