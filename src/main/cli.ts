import { readFileSync } from "node:fs";
import { httpFetch } from "../cli/api/http-fetch.ts";
import { findCommandName } from "../cli/command-name.ts";
import { exitCodes } from "../cli/exit-codes.ts";
import { runCli } from "../cli/run-cli.ts";
import { Terminal } from "../cli/output/terminal.ts";
import { type CliConfig, loadCliConfig } from "../config/cli.ts";
import { ConfigError } from "../config/config-error.ts";
import { openSessionConsole } from "./compose/session-console.ts";
import { startProcess } from "./compose/start-process.ts";

/**
 * The composition root of `berth`: gives the command line its streams, its environment and its
 * processes.
 *
 * Modules that only some commands need load when they are needed: zod and the commands
 * themselves.
 */

function loadConfig(): CliConfig | undefined {
  try {
    return loadCliConfig(process.env);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    process.stderr.write(`error: The environment is invalid.\n${error.message}\n`);
    return undefined;
  }
}

function readVersion(): string {
  const file = new URL("../../package.json", import.meta.url);
  return (JSON.parse(readFileSync(file, "utf8")) as { version: string }).version;
}

async function main(): Promise<number> {
  const config = loadConfig();
  if (!config) return exitCodes.usage;
  const interrupt = new AbortController();
  const onSignal = (): void => {
    // The second Ctrl-C ends the process immediately.
    if (interrupt.signal.aborted) process.exit(exitCodes.interrupted);
    interrupt.abort();
  };
  process.on("SIGINT", onSignal).on("SIGTERM", onSignal);
  // `berth get sets | head` closes the pipe, which is not an error.
  process.stdout.on("error", () => process.exit(exitCodes.ok));
  const exitCode = await runCli({
    argv: process.argv.slice(2),
    commandName: findCommandName(process.argv[1], {
      directory: process.cwd(),
      searchPath: process.env["PATH"] ?? "",
    }),
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
    fetch: httpFetch,
    dialSocket: async (url, options) => {
      const { createSocketDialer } = await import("./compose/dial-web-socket.ts");
      return createSocketDialer()(url, options);
    },
    openConsole: () => openSessionConsole(process.stdin, process.stdout, process.stderr),
    term: process.env["TERM"],
    startProcess,
    signal: interrupt.signal,
    now: Date.now,
  });
  return exitCode;
}

process.exitCode = await main();
