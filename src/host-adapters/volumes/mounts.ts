import { mkdir, readFile, rmdir, statfs } from "node:fs/promises";
import { CommandError, runCommand } from "../exec.ts";
import { volumeError } from "./block-store.ts";
import type { FileSystemType } from "./file-systems.ts";

const mountTimeoutMs = 60_000;
const flagTimeoutMs = 5_000;

/** A part of umount's message for a file system in use (EBUSY). */
const busyPattern = /busy/i;

/** The mounts of /proc/self/mountinfo: mount point to type of file system. */
export async function readMounts(): Promise<Map<string, string>> {
  const mounts = new Map<string, string>();
  for (const line of (await readFile("/proc/self/mountinfo", "utf8")).split("\n")) {
    // proc(5): any number of optional fields precede the separator.
    const [left = "", right] = line.split(" - ");
    const mountPoint = left.split(" ")[4];
    const type = right?.split(" ")[0];
    if (mountPoint === undefined || type === undefined) continue;
    mounts.set(unescape(mountPoint), type); // the last mount at a mount point hides the others
  }
  return mounts;
}

/** In proc(5), space, tab, newline and backslash are octal. */
function unescape(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_all, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  );
}

/**
 * Mounts a device as this type. Without a type, `mount` would guess by all signatures in the
 * blocks. A tenant may have written others than that of the file system. Does nothing if a program
 * of a killed agent has mounted it meanwhile.
 */
export async function mountDevice(
  { device, type, mountPoint }: { device: string; type: FileSystemType; mountPoint: string },
  signal: AbortSignal,
): Promise<void> {
  await makeMountPoint(mountPoint, signal);
  const args = ["-t", type, "-o", "nodev,nosuid,noatime", "--", device, mountPoint];
  try {
    await runCommand("/usr/bin/mount", args, { timeoutMs: mountTimeoutMs, signal });
  } catch (error) {
    if (!(await readMounts()).has(mountPoint)) throw failed(error);
    // The flag may be on the root of the volume instead of the mount point.
    await setImmutable(mountPoint, false, signal);
  }
}

/**
 * Unmounts. Rejects with volume-busy while a process uses the file system. Does nothing if a
 * program of a killed agent has unmounted it meanwhile.
 */
export async function unmount(mountPoint: string, signal: AbortSignal): Promise<void> {
  try {
    await runCommand("/usr/bin/umount", ["--", mountPoint], { timeoutMs: mountTimeoutMs, signal });
  } catch (error) {
    if (!(await readMounts()).has(mountPoint)) return;
    if (!(error instanceof CommandError) || !busyPattern.test(error.stderrTail))
      throw failed(error);
    throw volumeError("volume-busy", `${mountPoint} is in use and stays mounted`, {
      temporary: true,
      cause: error,
    });
  }
}

/** Bytes in use on a file system. */
export async function fileSystemUsage(mountPoint: string): Promise<number> {
  const { bsize, blocks, bfree } = await statfs(mountPoint);
  return (blocks - bfree) * bsize;
}

/**
 * Creates an empty, immutable folder. So a container that starts while the volume is not mounted
 * fails, and cannot write to the host's disk. File systems without that flag get an ordinary
 * folder.
 */
async function makeMountPoint(mountPoint: string, signal: AbortSignal): Promise<void> {
  await mkdir(mountPoint, { recursive: true, mode: 0o700 });
  await setImmutable(mountPoint, true, signal);
}

/** Makes the folder mutable again, so that an operator can delete the agent's folder. */
export function freeMountPoint(mountPoint: string, signal: AbortSignal): Promise<void> {
  return setImmutable(mountPoint, false, signal);
}

export async function removeMountPoint(mountPoint: string, signal: AbortSignal): Promise<void> {
  await setImmutable(mountPoint, false, signal);
  await rmdir(mountPoint).catch((error: unknown) => {
    if ((error as { code?: unknown }).code !== "ENOENT") throw error;
  });
}

async function setImmutable(folder: string, isOn: boolean, signal: AbortSignal): Promise<void> {
  const args = [isOn ? "+i" : "-i", "--", folder];
  await runCommand("/usr/bin/chattr", args, { timeoutMs: flagTimeoutMs, signal }).catch(
    () => undefined,
  );
}

function failed(error: unknown): unknown {
  if (!(error instanceof CommandError)) return error;
  return volumeError("volume-failed", error.message, { temporary: true, cause: error });
}
