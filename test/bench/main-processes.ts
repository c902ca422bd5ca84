import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { type Dispatcher, request as httpRequest } from "undici";

/**
 * Runs Berth's processes as an operator does: each is a process of its own, from the output of `npm
 * run build`.
 */

export const ADMIN_TOKEN = "bench-admin-token-0123456789";
export const CLOCK_TICKS_PER_SECOND = 100;
const READY_DEADLINE_MS = 60_000;
const root = fileURLToPath(new URL("../../", import.meta.url));

export async function buildMain(): Promise<void> {
  await promisify(execFile)("npm", ["run", "build"], { cwd: root });
}

/**
 * The API has the priority of its unit in systemd/. Real hosts are other machines: here they only
 * get the CPU time that Berth itself leaves. Without root, `nice` starts the API with 0.
 */
const niceness: Readonly<Record<string, string>> = { api: "-5", "simulated-hosts": "10" };

/**
 * As in systemd/. The benchmarks do not measure the simulation, which creates as many short-lived
 * objects.
 */
const nodeFlags: Readonly<Record<string, readonly string[]>> = {
  api: ["--max-semi-space-size=32"],
  "host-agent": ["--max-semi-space-size=1"],
  "simulated-hosts": ["--max-semi-space-size=32"],
};

/** As in systemd/. */
const environments: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  "host-agent": { MALLOC_ARENA_MAX: "2" },
};

export interface MainOptions {
  args?: readonly string[];
  /** Flags of Node beyond the role's own. */
  nodeFlags?: readonly string[];
  /** A pipe, for `readyLine`, unless the output is ignored. */
  output?: "pipe" | "ignore";
}

/** Starts `dist/main/NAME.js` with exactly these settings. */
export function startMain(
  name: string,
  env: Readonly<Record<string, string>>,
  options: MainOptions = {},
): ChildProcess {
  const node = [
    process.execPath,
    ...(nodeFlags[name] ?? []),
    ...(options.nodeFlags ?? []),
    `${root}dist/main/${name}.js`,
    ...(options.args ?? []),
  ];
  // The kernel ends the child when this process ends, even by SIGKILL.
  const command = ["nice", "-n", niceness[name] ?? "0", ...node];
  return spawn("setpriv", ["--pdeathsig", "KILL", "--", ...command], {
    stdio: ["ignore", options.output ?? "pipe", "inherit"],
    env: { PATH: process.env["PATH"], HOME: process.env["HOME"], ...environments[name], ...env },
  });
}

/** A line of JSON with which a process reports its progress (BERTH_READY_JSON). */
export interface ReadyLine {
  ready?: boolean;
  apiUrl?: string;
  enrolled?: number;
  timeouts?: number;
}

/**
 * Waits for the line that reports readiness. Rejects when the process ends first, or after
 * `deadlineMs`.
 */
export async function readyLine(
  child: ChildProcess,
  onLine: (line: ReadyLine) => void = () => undefined,
  deadlineMs = READY_DEADLINE_MS,
): Promise<ReadyLine> {
  const command = child.spawnargs.at(-1) ?? "a process";
  return await new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      reject(new Error(`${command} was not ready within ${deadlineMs} ms`));
    }, deadlineMs);
    child.once("exit", (code) => {
      clearTimeout(timer);
      reject(new Error(`${command} ended with exit code ${code}`));
    });
    if (!child.stdout) throw new Error("the child's output is not a pipe");
    createInterface({ input: child.stdout }).on("line", (text) => {
      if (!text.startsWith("{")) return;
      if (text.includes('"level":')) {
        process.stderr.write(`${text}\n`); // warnings of the process's log
        return;
      }
      const line = JSON.parse(text) as ReadyLine;
      onLine(line);
      if (line.ready !== true) return;
      clearTimeout(timer);
      resolve(line);
    });
  });
}

/** Kills the process. Containers that an agent leaves behind stay as they are. */
export async function endChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGKILL");
  await exited;
}

/** Ends the process by SIGTERM, so that it exits in order. */
export async function terminateChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  child.kill("SIGTERM");
  await exited;
}

export function pidOf(child: { pid?: number | undefined }): number {
  if (child.pid === undefined) throw new Error("the process has not started");
  return child.pid;
}

/** Sends one API request. Throws for an answer that is not a success. */
export async function requestApi<T>(
  dispatcher: Dispatcher,
  { secret, method, url, body }: { secret: string; method: string; url: string; body: unknown },
): Promise<T> {
  const response = await httpRequest(url, {
    dispatcher,
    method,
    headers: { authorization: `Bearer ${secret}`, "content-type": "application/json" },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.body.text();
  if (response.statusCode >= 300) {
    throw new Error(`${method} ${url} answered ${response.statusCode}: ${text}`);
  }
  return (text === "" ? undefined : JSON.parse(text)) as T;
}

/** Returns the resident memory of a process: now, and at its peak. */
export function memoryOf(pid: number): { rssMb: number; peakMb: number } {
  const status = readProcFile(`${pid}/status`);
  const mbOf = (name: string): number =>
    Math.round(Number(new RegExp(`${name}:\\s+(\\d+) kB`).exec(status)?.[1]) / 1024);
  return { rssMb: mbOf("VmRSS"), peakMb: mbOf("VmHWM") };
}

/**
 * Returns the parent of a process and its ticks of CPU time; undefined after the process has ended.
 */
export function statOf(pid: number): { parent: number; ticks: number } | undefined {
  const fields = readProcFile(`${pid}/stat`).split(") ")[1]?.split(" ");
  return fields && { parent: Number(fields[1]), ticks: Number(fields[11]) + Number(fields[12]) };
}

/**
 * Returns the CPU seconds that these processes have used, on request with those of their children:
 * every connection to Postgres is a child. The time of children that have ended is missing.
 */
export function cpuSecondsOf(
  pids: readonly number[],
  { withChildren }: { withChildren: boolean },
): number {
  let ticks = 0;
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    const stat = statOf(Number(entry));
    if (!stat) continue;
    const isIncluded = pids.includes(Number(entry)) || (withChildren && pids.includes(stat.parent));
    if (isIncluded) ticks += stat.ticks;
  }
  return ticks / CLOCK_TICKS_PER_SECOND;
}

/** Returns an empty text for a process that has ended. */
function readProcFile(name: string): string {
  try {
    return readFileSync(`/proc/${name}`, "utf8");
  } catch {
    return "";
  }
}
