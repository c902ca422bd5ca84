import { readFile, readlink } from "node:fs/promises";

/** The main process of a running container, by facts of the kernel that no clock changes. */
export interface ContainerProcess {
  /** Unique over the life of the machine: the boot, the PID, and the ticks from boot to start. */
  id: string;
  /** Its network namespace, such as "net:[4026532281]". */
  network: string;
}

/** Position of the start time in the fields of /proc/<pid>/stat after the name of the command. */
const startTimePosition = 19;

/** Undefined if no such process exists: it has ended, or it runs on another machine. */
export async function readContainerProcess(pid: number): Promise<ContainerProcess | undefined> {
  if (pid <= 0) return undefined;
  try {
    const [bootId, stat, network] = await Promise.all([
      readFile("/proc/sys/kernel/random/boot_id", "utf8"),
      readFile(`/proc/${pid}/stat`, "utf8"),
      readlink(`/proc/${pid}/ns/net`),
    ]);
    // The name of the command may contain spaces and parentheses.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return { id: `${bootId.trim()}:${pid}:${fields[startTimePosition]}`, network };
  } catch (error) {
    const { code } = error as { code?: unknown };
    if (code === "ENOENT" || code === "ESRCH") return undefined;
    throw error;
  }
}
