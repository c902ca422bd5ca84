import { type ChildProcess, spawn } from "node:child_process";
import { createRequire } from "node:module";
import path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath, pathToFileURL } from "node:url";
import { waitUntil } from "../wait-until.ts";

const readyDeadlineMs = 60_000;
const endDeadlineMs = 30_000;
const retainedLinesMax = 2_000;
const tsx = pathToFileURL(createRequire(import.meta.url).resolve("tsx")).href;

/** A process of Berth, as an operator starts it. It never outlives the tests. */
export interface MainProcess {
  pid: number;
  /** The fields of its ready line. */
  ready: Record<string, unknown>;
  /** The lines of its log so far. Omits lines that are not JSON. */
  logLines(): Record<string, unknown>[];
  /** Its standard error so far. */
  errorOutput(): string;
  /** Sends `signal` and waits for the exit. Returns the exit code, or null after a fatal signal. */
  end(signal: NodeJS.Signals): Promise<number | null>;
}

interface Started {
  child: ChildProcess;
  lines: Record<string, unknown>[];
  errorOutput(): string;
}

export interface StartOptions {
  /** The folder of a different checkout than this one. */
  root?: string | undefined;
  /** A network namespace. The default is the machine's. */
  namespace?: string | undefined;
  /** A process group of its own, so that Ctrl-C in a terminal does not reach it. */
  isDetached?: boolean | undefined;
}

/**
 * Starts src/main/`program`.ts with only `env`, and resolves once it is ready.
 */
export async function startMain(
  program: string,
  env: Readonly<Record<string, string>>,
  options: StartOptions = {},
): Promise<MainProcess> {
  const started = spawnMain(program, { BERTH_READY_JSON: "true", ...env }, options);
  const { child, lines } = started;
  const readyLine = () => lines.find((line) => line["ready"] === true);
  await waitUntil(`${program} is ready`, () => readyLine() !== undefined || hasEnded(child), {
    deadlineMs: readyDeadlineMs,
  }).catch((error: unknown) => {
    child.kill("SIGKILL");
    throw error;
  });
  const ready = readyLine();
  if (!ready) throw new Error(`${program} ended: ${started.errorOutput()}`);
  return {
    pid: child.pid ?? -1,
    ready,
    logLines: () => lines,
    errorOutput: () => started.errorOutput(),
    end: async (signal) => {
      if (!hasEnded(child)) child.kill(signal);
      await waitUntil(`${program} ends`, () => hasEnded(child), { deadlineMs: endDeadlineMs });
      return child.exitCode;
    },
  };
}

/** Runs a process that ends without a signal. Returns its exit code and its standard error. */
export async function runMain(
  program: string,
  env: Readonly<Record<string, string>>,
): Promise<{ exitCode: number | null; errorOutput: string }> {
  const started = spawnMain(program, env);
  const { child } = started;
  await waitUntil(`${program} ends`, () => hasEnded(child), { deadlineMs: endDeadlineMs });
  return { exitCode: child.exitCode, errorOutput: started.errorOutput() };
}

function spawnMain(
  program: string,
  env: Readonly<Record<string, string>>,
  {
    root = fileURLToPath(new URL("../../..", import.meta.url)),
    namespace,
    isDetached = false,
  }: StartOptions = {},
): Started {
  const file = path.join(root, `src/main/${program}.ts`);
  // The kernel ends it when this process ends for any reason.
  const enter = namespace === undefined ? [] : ["nsenter", `--net=/run/netns/${namespace}`];
  const args = ["--pdeathsig", "KILL", "--", ...enter, process.execPath, "--import", tsx, file];
  const child = spawn("setpriv", args, {
    stdio: ["ignore", "pipe", "pipe"],
    env: { PATH: process.env["PATH"], HOME: process.env["HOME"], ...env },
    detached: isDetached,
  });
  const lines: Record<string, unknown>[] = [];
  createInterface({ input: child.stdout }).on("line", (text) => {
    const line = parseLine(text);
    if (line) lines.push(line);
    if (lines.length > retainedLinesMax) lines.shift();
  });
  let errors = "";
  child.stderr.on("data", (chunk: Buffer) => {
    errors = (errors + chunk.toString()).slice(-10_000);
  });
  return { child, lines, errorOutput: () => errors };
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

function parseLine(text: string): Record<string, unknown> | undefined {
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    return undefined;
  }
}
