import { open } from "node:fs/promises";
import { CommandError, runCommand } from "../../exec.ts";
import { volumeError } from "./block-store.ts";

const makeTimeoutMs = 120_000;
const growTimeoutMs = 300_000;
const superblockBytes = 4_096;
/** mkfs.xfs makes none below 300 MiB (xfsprogs 5.19). */
const xfsBytesMin = 300 * 2 ** 20;
/** A file system leaves out a tail that is too short for a group of its blocks (ext4), or for one (xfs). */
const tailBytesMax = 4 * 2 ** 20;

export const fileSystemTypes = ["ext4", "xfs"] as const;
export type FileSystemType = (typeof fileSystemTypes)[number];

interface FileSystem {
  make(device: string, signal: AbortSignal): Promise<void>;
  /** Fills its device while mounted. */
  grow(at: { device: string; mountPoint: string }, signal: AbortSignal): Promise<void>;
  /** What it takes of its device, in bytes; undefined when the superblock is of another kind. */
  sizeOf(superblock: Buffer): number | undefined;
}

const fileSystems: Record<FileSystemType, FileSystem> = {
  ext4: {
    // Tables are filled in later, in the background, so that it takes tens of milliseconds. No blocks are kept for the
    // superuser: the size is what the set gets.
    make: (device, signal) =>
      run("mkfs.ext4", [...ext4Options, "--", device], makeTimeoutMs, signal),
    grow: ({ device }, signal) => run("resize2fs", ["--", device], growTimeoutMs, signal),
    // Linux, Documentation/filesystems/ext4/super.rst: 1,024 bytes in, little-endian, s_blocks_count_lo at 4, s_log_block_size at 24,
    // s_magic at 56, s_blocks_count_hi at 0x150.
    sizeOf: (superblock) => {
      const own = superblock.subarray(1_024);
      if (own.readUInt16LE(56) !== 0xef53) return undefined;
      const blocks = own.readUInt32LE(4) + own.readUInt32LE(0x150) * 2 ** 32;
      return blocks * 2 ** (10 + own.readUInt32LE(24));
    },
  },
  xfs: {
    make: (device, signal) => run("mkfs.xfs", ["-q", "-f", device], makeTimeoutMs, signal),
    grow: ({ mountPoint }, signal) => run("xfs_growfs", ["-d", mountPoint], growTimeoutMs, signal),
    // struct xfs_dsb: big-endian, sb_magicnum at 0, sb_blocksize at 4, sb_dblocks at 8.
    sizeOf: (superblock) => {
      if (superblock.toString("latin1", 0, 4) !== "XFSB") return undefined;
      return Number(superblock.readBigUInt64BE(8)) * superblock.readUInt32BE(4);
    },
  },
};

const ext4Options = ["-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1"];

/** Makes a file system of this type, or ext4 where the device is too small for it. */
export async function makeFileSystem(
  wanted: FileSystemType,
  { device, sizeBytes }: { device: string; sizeBytes: number },
  signal: AbortSignal,
): Promise<void> {
  const type = sizeBytes < xfsBytesMin ? "ext4" : wanted;
  await fileSystems[type].make(device, signal);
}

/** Grows a mounted file system that is smaller than its device, which is `sizeBytes` large. */
export async function fillDevice(
  at: { device: string; mountPoint: string; sizeBytes: number },
  signal: AbortSignal,
): Promise<void> {
  const { type, usesBytes } = await readFileSystem(at.device);
  if (at.sizeBytes - usesBytes > tailBytesMax) await fileSystems[type].grow(at, signal);
}

/** What is on a device, by its superblock. Rejects with volume-failed when it is nothing that is known. */
export async function readFileSystem(
  device: string,
): Promise<{ type: FileSystemType; usesBytes: number }> {
  const superblock = Buffer.alloc(superblockBytes);
  const file = await open(device, "r");
  try {
    await file.read(superblock, 0, superblock.length, 0);
  } finally {
    await file.close();
  }
  for (const type of fileSystemTypes) {
    const usesBytes = fileSystems[type].sizeOf(superblock);
    if (usesBytes !== undefined) return { type, usesBytes };
  }
  throw volumeError("volume-failed", `${device} has no file system that is known`, {
    temporary: false,
  });
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
