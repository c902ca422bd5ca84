import { readFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { AgentError } from "../../agent/base/agent-error.ts";

/** A process that forks faster than it is killed remains after this many rounds. */
const roundsMax = 20;
const roundMs = 10;

interface ProcessStat {
  pid: number;
  parent: number;
  session: number;
}

/**
 * Kills all processes of a health check that ran in a container. Docker cannot stop an exec, and a
 * check that hangs every two seconds would fill the container.
 *
 * Docker makes the check's first process the leader of a session. Its other processes have that
 * session, even after the first one has exited, or they descend from one of these. A process that
 * leaves the session and loses its parent before the first round remains.
 *
 * @param leader the first process of the check, which may have exited
 * @param listProcesses lists the processes of the container, so that no other is ever killed
 */
export async function killProbeProcesses(
  leader: number,
  listProcesses: () => Promise<readonly number[]>,
): Promise<void> {
  if (leader <= 0) return;
  for (let round = 0; round < roundsMax; round++) {
    const stats = await Promise.all((await listProcesses()).map(readStat));
    const members = findMembers(
      leader,
      stats.filter((stat) => stat !== undefined),
    );
    if (members.length === 0) return;
    for (const pid of members) kill(pid);
    await delay(roundMs);
  }
}

/**
 * Sends a signal to a program that runs in a container: to all processes of its first process
 * group, as a terminal does. Does nothing if it has exited.
 *
 * @param leader the first process of the program
 */
export async function signalProgram(
  leader: number,
  signal: NodeJS.Signals,
  listProcesses: () => Promise<readonly number[]>,
): Promise<void> {
  if (leader <= 0 || !(await listProcesses()).includes(leader)) return;
  try {
    process.kill(-leader, signal);
  } catch (error) {
    if (!hasExited(error)) throw error;
  }
}

function findMembers(leader: number, stats: readonly ProcessStat[]): number[] {
  const members = new Set<number>();
  for (let size = -1; size < members.size;) {
    size = members.size;
    for (const { pid, parent, session } of stats) {
      if (pid === leader || session === leader || members.has(parent)) members.add(pid);
    }
  }
  return [...members];
}

/** Undefined if the process has exited. */
async function readStat(pid: number): Promise<ProcessStat | undefined> {
  try {
    const text = await readFile(`/proc/${pid}/stat`, "utf8");
    // The name of the program is in parentheses and may contain any character.
    const [state, parent, , session] = text.slice(text.lastIndexOf(")") + 2).split(" ");
    if (state === "Z" || state === "X") return undefined;
    return { pid, parent: Number(parent), session: Number(session) };
  } catch (error) {
    if (hasExited(error)) return undefined;
    throw error;
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    if (hasExited(error)) return;
    throw new AgentError("probe-failed", "cannot kill a health check that hangs", {
      phase: "health",
      temporary: true,
      cause: error,
    });
  }
}

function hasExited(error: unknown): boolean {
  const { code } = error as { code?: unknown };
  return code === "ENOENT" || code === "ESRCH";
}
