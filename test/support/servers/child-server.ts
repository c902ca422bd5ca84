import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { waitUntil } from "../wait-until.ts";

/** A server that runs as a child of the tests. It never outlives them: see startChildServer. */
export interface ChildServer {
  pid: number;
  /** Sends `signal` (default SIGKILL) and waits until the process exits. Safe to call twice. */
  kill(signal?: NodeJS.Signals): Promise<void>;
  /** The last lines that it wrote to either output, for an error message. */
  outputTail(): string;
}

const outputCharsMax = 4_000;
const stopDeadlineMs = 10_000;

/**
 * Starts `program` under setpriv. The kernel sends `deathSignal` to it when this process ends, even
 * by SIGKILL, so a crashed run leaves no server behind. Root starts it as `user` if one is given.
 * The signal is bound to the spawning thread: start servers from a main thread or a child process.
 * A detached server has a process group of its own, so Ctrl-C in a terminal does not reach it.
 */
export function startChildServer(
  program: string,
  args: readonly string[],
  {
    user,
    deathSignal = "KILL",
    isDetached = false,
  }: { user?: string; deathSignal?: "KILL" | "QUIT" | "TERM"; isDetached?: boolean } = {},
): ChildServer {
  const child = spawn(
    "setpriv",
    [...asUser(user), "--pdeathsig", deathSignal, "--", program, ...args],
    {
      stdio: ["ignore", "pipe", "pipe"],
      cwd: "/",
      detached: isDetached,
    },
  );
  let output = "";
  const keepTail = (chunk: Buffer) => {
    output = (output + chunk.toString()).slice(-outputCharsMax);
  };
  child.stdout.on("data", keepTail);
  child.stderr.on("data", keepTail);
  child.on("error", (error) => {
    output += error.message;
  });
  return {
    pid: child.pid ?? -1,
    kill: (signal = "SIGKILL") => killChild(child, signal),
    outputTail: () => output,
  };
}

/** Returns the arguments of setpriv that change to `user`, or none unless this process is root. */
export function asUser(user: string | undefined): string[] {
  if (user === undefined || process.getuid?.() !== 0) return [];
  return [`--reuid=${user}`, `--regid=${user}`, "--clear-groups"];
}

/**
 * Returns a free port on loopback. Another process may take the port first: callers retry their
 * start.
 */
export async function findFreePort(): Promise<number> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("no TCP address");
  return address.port;
}

async function killChild(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  const hasExited = () =>
    child.exitCode !== null || child.signalCode !== null || child.pid === undefined;
  if (hasExited()) return;
  child.kill(signal);
  await waitUntil(`process ${child.pid} ends after ${signal}`, hasExited, {
    deadlineMs: stopDeadlineMs,
  });
}
