import { mkdir, readFile, rmdir, statfs } from "node:fs/promises";
import { CommandError, runCommand } from "../../exec.ts";
import { volumeError } from "./block-store.ts";

const mountTimeoutMs = 60_000;
const flagTimeoutMs = 5_000;

/** How `umount` ends when somebody still uses it (mount(8), and EBUSY in its message). */
const busyPattern = /busy/i;

/** Where what is mounted, as /proc/self/mountinfo says: mount point to type of file system. */
export async function readMounts(): Promise<Map<string, string>> {
  const mounts = new Map<string, string>();
  for (const line of (await readFile("/proc/self/mountinfo", "utf8")).split("\n")) {
    const [left = "", right] = line.split(" - "); // proc(5): of optional fields there are any number before it
    const mountPoint = left.split(" ")[4];
    const type = right?.split(" ")[0];
    if (mountPoint === undefined || type === undefined) continue;
    mounts.set(unescape(mountPoint), type); // the last one over a mount point is what is seen
  }
  return mounts;
}

/** proc(5): space, tab, newline and backslash are octal. */
function unescape(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_all, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  );
}

export async function mountDevice(
  device: string,
  mountPoint: string,
  signal: AbortSignal,
): Promise<void> {
  await makeMountPoint(mountPoint, signal);
  // What is on it is found out by the program: a device that hangs must not hold up this process.
  const args = ["-o", "nodev,nosuid,noatime", "--", device, mountPoint];
  await runCommand("/usr/bin/mount", args, { timeoutMs: mountTimeoutMs, signal }).catch(
    (error: unknown) => {
      throw failed(error);
    },
  );
}

/** Rejects with volume-busy while somebody has it open. */
export async function unmount(mountPoint: string, signal: AbortSignal): Promise<void> {
  try {
    await runCommand("/usr/bin/umount", ["--", mountPoint], { timeoutMs: mountTimeoutMs, signal });
  } catch (error) {
    if (!(error instanceof CommandError) || !busyPattern.test(error.stderrTail))
      throw failed(error);
    throw volumeError("volume-busy", `${mountPoint} is in use and stays mounted`, {
      temporary: true,
      cause: error,
    });
  }
}

/** Bytes that what is stored takes. */
export async function fileSystemUse(mountPoint: string): Promise<number> {
  const { bsize, blocks, bfree } = await statfs(mountPoint);
  return (blocks - bfree) * bsize;
}

/**
 * An empty folder in which nothing can be made, so that a container which is started while the volume is not mounted fails,
 * instead of writing to the host's own disk. Not every file system knows the flag; those go without.
 */
async function makeMountPoint(mountPoint: string, signal: AbortSignal): Promise<void> {
  await mkdir(mountPoint, { recursive: true, mode: 0o700 });
  await setImmutable(mountPoint, true, signal);
}

/** Nothing is started on it any more, and whoever clears the agent's folder away must be able to. */
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
