import { readFile, readlink } from "node:fs/promises";
import type { ContainerProcess } from "../../agent/ports/container-port.ts";

/** Position of the start time in the fields of /proc/<pid>/stat after the name of the command. */
const startTimePosition = 19;
const netDevHeaderLines = 2;

/** Undefined if no such process exists: it has ended, or it runs on another machine. */
export async function readContainerProcess(pid: number): Promise<ContainerProcess | undefined> {
  if (pid <= 0) return undefined;
  try {
    const [bootId, stat, network, netDev] = await Promise.all([
      readFile("/proc/sys/kernel/random/boot_id", "utf8"),
      readFile(`/proc/${pid}/stat`, "utf8"),
      readNetwork(pid),
      readFile(`/proc/${pid}/net/dev`, "utf8"),
    ]);
    // The name of the command may contain spaces and parentheses.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const lines = netDev.trim().split("\n").slice(netDevHeaderLines);
    return {
      id: `${bootId.trim()}:${pid}:${fields[startTimePosition]}`,
      network,
      interfaces: lines.map((line) => line.trim().split(":")[0]).join(),
    };
  } catch (error) {
    if (isCode(error, "ENOENT", "ESRCH", "EINVAL")) return undefined;
    throw error;
  }
}

export function isCode(error: unknown, ...codes: string[]): boolean {
  const { code } = error as { code?: unknown };
  return typeof code === "string" && codes.includes(code);
}

async function readNetwork(pid: number): Promise<string | undefined> {
  try {
    return await readlink(`/proc/${pid}/ns/net`);
  } catch (error) {
    if (isCode(error, "EACCES", "EPERM")) return undefined;
    throw error;
  }
}
