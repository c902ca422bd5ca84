import { type ChildProcess, execFile, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { type Dispatcher, request as httpRequest } from "undici";

/** Berth's processes as they are run in earnest: what `npm run build` makes, each started by itself. */

export const ADMIN_TOKEN = "bench-admin-token-0123456789";
export const CLOCK_TICKS_PER_SECOND = 100;
const READY_DEADLINE_MS = 60_000;
const root = fileURLToPath(new URL("../../", import.meta.url));

export async function buildMain(): Promise<void> {
  await promisify(execFile)("npm", ["run", "build"], { cwd: root });
}

/** Hosts are machines of their own: their work is done here with what Berth itself leaves of the processors. */
const niceness: Readonly<Record<string, string>> = { "simulated-hosts": "10" };

/** As in systemd/. The simulation has as many short-lived objects, and is no part of what is measured. */
const nodeFlags: Readonly<Record<string, readonly string[]>> = {
  api: ["--max-semi-space-size=32"],
  "host-agent": ["--max-semi-space-size=1"],
  "simulated-hosts": ["--max-semi-space-size=32"],
};

/** Starts `dist/main/NAME.js` with these settings and no others. */
export function startMain(
  name: string,
  env: Readonly<Record<string, string>>,
  args: readonly string[] = [],
): ChildProcess {
  const node = [
    process.execPath,
    ...(nodeFlags[name] ?? []),
    `${root}dist/main/${name}.js`,
    ...args,
  ];
  // The kernel ends it when this process ends, however that happens.
  const command = ["nice", "-n", niceness[name] ?? "0", ...node];
  return spawn("setpriv", ["--pdeathsig", "KILL", "--", ...command], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { PATH: process.env["PATH"], HOME: process.env["HOME"], ...env },
  });
}

/** The lines in JSON that a process says what it does in (BERTH_READY_JSON). */
export interface ReadyLine {
  ready?: boolean;
  apiUrl?: string;
  enrolled?: number;
}

/** The line that says that the process is ready. Rejects when it ends before, or says nothing for too long. */
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
    if (!child.stdout) throw new Error("its output is piped");
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

/** Kills it: what an agent leaves behind is left as it is. */
export async function endChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGKILL");
  await gone;
}

export function pidOf(child: ChildProcess): number {
  if (child.pid === undefined) throw new Error("a process that runs has a pid");
  return child.pid;
}

/** One API request as the admin. Throws for an answer that is no success. */
export async function requestAsAdmin<T>(
  dispatcher: Dispatcher,
  { method, url, body }: { method: string; url: string; body: unknown },
): Promise<T> {
  const response = await httpRequest(url, {
    dispatcher,
    method,
    headers: { authorization: `Bearer ${ADMIN_TOKEN}`, "content-type": "application/json" },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.body.text();
  if (response.statusCode >= 300) {
    throw new Error(`${method} ${url} answered ${response.statusCode}: ${text}`);
  }
  return (text === "" ? undefined : JSON.parse(text)) as T;
}

/** Resident memory of a process: now, and at its highest. */
export function memoryOf(pid: number): { rssMb: number; peakMb: number } {
  const status = readProcFile(`${pid}/status`);
  const mbOf = (name: string): number =>
    Math.round(Number(new RegExp(`${name}:\\s+(\\d+) kB`).exec(status)?.[1]) / 1024);
  return { rssMb: mbOf("VmRSS"), peakMb: mbOf("VmHWM") };
}

/** The parent of a process, and the ticks of processor time that it has used. Undefined: it has ended. */
export function statOf(pid: number): { parent: number; ticks: number } | undefined {
  const fields = readProcFile(`${pid}/stat`).split(") ")[1]?.split(" ");
  return fields && { parent: Number(fields[1]), ticks: Number(fields[11]) + Number(fields[12]) };
}

/** Empty for a process that has ended meanwhile. */
function readProcFile(name: string): string {
  try {
    return readFileSync(`/proc/${name}`, "utf8");
  } catch {
    return "";
  }
}
