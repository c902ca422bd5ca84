import { spawn } from "node:child_process";
import { type FileHandle, mkdir, open } from "node:fs/promises";
import path from "node:path";

/** Exit status of `flock --nonblock` when another process has the lock. */
const EXIT_LOCKED = 1;
/** The file descriptor of the lock file in the child process. */
const LOCK_FD = 3;

/**
 * Creates a folder if necessary, and locks it for the life of this process. Returns a function that
 * releases the lock. Rejects if another process has the lock.
 *
 * Node cannot lock a file itself. The program `flock` locks an open file that it shares with this
 * process, and ends. The kernel holds the lock until this process closes the file or ends for any
 * reason, so a killed process leaves no stale lock. Processes in other namespaces see it, too.
 */
export async function lockFolder(folder: string, name: string): Promise<() => Promise<void>> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  // The file stays: a deleted file could be locked twice, under its old and its new inode.
  const file = await open(path.join(folder, name), "a", 0o600);
  try {
    await lockOpenFile(file, folder);
  } catch (error) {
    await file.close();
    throw error;
  }
  return () => file.close();
}

async function lockOpenFile(file: FileHandle, folder: string): Promise<void> {
  const child = spawn("flock", ["--nonblock", String(LOCK_FD)], {
    stdio: ["ignore", "ignore", "pipe", file.fd],
    env: { LC_ALL: "C", PATH: "/usr/sbin:/usr/bin:/sbin:/bin" },
  });
  let errors = "";
  child.stderr?.on("data", (chunk: Buffer) => {
    errors = (errors + chunk.toString()).slice(-1_000);
  });
  const status = await new Promise<number | null>((resolve, reject) => {
    child.once("error", (cause) =>
      reject(new Error("the program flock is missing. Install util-linux.", { cause })),
    );
    child.once("close", resolve);
  });
  if (status === 0) return;
  if (status === EXIT_LOCKED && errors === "") {
    throw new Error(
      `${folder} is in use by another process. Stop that process, or choose another folder.`,
    );
  }
  throw new Error(`cannot lock ${folder}: ${errors.trim() || `flock exited with ${status}`}`);
}
