import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { Agent, fetch as undiciFetch, type RequestInit as UndiciRequestInit } from "undici";
import { z } from "zod";
import type { FetchFunction } from "../cli/api/api-client.ts";
import type { StartProcess } from "../cli/cli-context.ts";
import { exitCodes } from "../cli/exit-codes.ts";
import { runCli } from "../cli/run-cli.ts";
import { Terminal } from "../cli/output/terminal.ts";
import { type CliConfig, loadCliConfig } from "../config/cli.ts";

/**
 * The composition root of `berth`: gives the command line its streams, its environment and its
 * processes.
 */

/** .ts in a checkout, where tsx compiles at load; .js after a build. */
const extension = import.meta.url.endsWith(".ts") ? ".ts" : ".js";

/**
 * Settings of the command line alone. Processes refuse unknown BERTH_* variables as likely typos,
 * so the command line does not pass these on. The agent needs the API's URL, too.
 */
const ownSettings = [
  "BERTH_TOKEN",
  "BERTH_TOKEN_FILE",
  "BERTH_TENANT",
  "BERTH_CONTEXT",
  "BERTH_CONFIG",
];

const startProcess: StartProcess = (name, args, options) => {
  const script = fileURLToPath(new URL(`./${name}${extension}`, import.meta.url));
  const loader = extension === ".ts" ? ["--import", import.meta.resolve("tsx")] : [];
  const withheld = name === "all-in-one" ? [...ownSettings, "BERTH_API_URL"] : ownSettings;
  const inherited = Object.entries(process.env).filter(([key]) => !withheld.includes(key));
  const output = options.onLine ? "pipe" : "inherit";
  const child = spawn(process.execPath, ["--enable-source-maps", ...loader, script, ...args], {
    stdio: ["ignore", output, output],
    // A process group of its own: Ctrl-C reaches only the command line, which stops the child once.
    detached: true,
    env: { ...Object.fromEntries(inherited), ...options.env },
  });
  for (const stream of [child.stdout, child.stderr]) {
    if (stream && options.onLine)
      createInterface({ input: stream, crlfDelay: Infinity }).on("line", options.onLine);
  }
  const ended = new Promise<number>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => resolve(code ?? (signal === "SIGKILL" ? 137 : 143)));
  });
  return { ended, stop: () => void child.kill("SIGTERM") };
};

function loadConfig(): CliConfig | undefined {
  try {
    return loadCliConfig(process.env);
  } catch (error) {
    if (!(error instanceof z.ZodError)) throw error;
    process.stderr.write(`error: the environment is invalid\n${z.prettifyError(error)}\n`);
    return undefined;
  }
}

function readVersion(): string {
  const file = new URL("../../package.json", import.meta.url);
  return z.object({ version: z.string() }).parse(JSON.parse(readFileSync(file, "utf8"))).version;
}

async function main(): Promise<number> {
  const config = loadConfig();
  if (!config) return exitCodes.usage;
  const interrupt = new AbortController();
  const onSignal = (): void => {
    // The second Ctrl-C ends the process at once.
    if (interrupt.signal.aborted) process.exit(exitCodes.interrupted);
    interrupt.abort();
  };
  process.on("SIGINT", onSignal).on("SIGTERM", onSignal);
  // `berth get sets | head` closes the pipe, which is no error.
  process.stdout.on("error", () => process.exit(exitCodes.ok));
  // Streams of events and logs may be silent for long, so only headers have a timeout. Requests
  // have their own deadlines.
  const dispatcher = new Agent({ bodyTimeout: 0, headersTimeout: 120_000 });
  const fetch: FetchFunction = async (url, init) => {
    const answer = await undiciFetch(url, { ...init, dispatcher } as UndiciRequestInit);
    return answer;
  };
  const exitCode = await runCli({
    argv: process.argv.slice(2),
    settings: config,
    terminal: new Terminal({
      stdout: process.stdout,
      stderr: process.stderr,
      isStdoutTty: process.stdout.isTTY,
      isStderrTty: process.stderr.isTTY,
      columns: process.stderr.columns || 120,
      colorAllowed: config.colorAllowed,
    }),
    stdin: process.stdin,
    version: readVersion(),
    fetch,
    startProcess,
    signal: interrupt.signal,
    now: Date.now,
  });
  await dispatcher.destroy();
  return exitCode;
}

process.exitCode = await main();
