import type { Command } from "commander";
import type { Cli } from "../cli-context.ts";
import { CliError } from "../cli-error.ts";
import { exitCodes } from "../exit-codes.ts";
import { plainText } from "../output/plain-text.ts";

/** The default of BERTH_DATA_DIR; see src/config/cli.ts. */
const DEFAULT_DATA_DIR = ".berth";

/** The line that the all-in-one process writes once its API serves. */
interface ReadyLine {
  ready: true;
  apiUrl: string;
  adminTokenFile: string;
}

interface LogLine {
  level: string;
  msg: string;
  err?: { message?: string };
}

/** One member distinguishes the two kinds of lines. */
function isReadyLine(line: object): line is ReadyLine {
  return "ready" in line && line.ready === true;
}

function isLogLine(line: object): line is LogLine {
  return "level" in line && "msg" in line;
}

interface UpOptions {
  port?: string;
  dataDir?: string;
  agent: boolean;
  logs?: boolean;
}

/** Adds the commands that run a process of Berth. They return when the process exits. */
export function addProcessCommands(program: Command, cli: Cli): void {
  program
    .command("up")
    .summary("run Berth on this machine: API, jobs and host agent")
    .description(
      "Runs the API, the jobs and the host agent in one process. In the same directory, other `berth` commands find it automatically. Sets are in networks only if the network driver runs on this machine.",
    )
    .option("--port <port>", "port of the API (BERTH_PORT)")
    .option("--data-dir <dir>", "directory of the database and all other data (BERTH_DATA_DIR)")
    .option("--no-agent", "run no host agent, so this machine runs no sets")
    .option("--logs", "print the whole log as JSON")
    .action(async (options: UpOptions) => await up(cli, options));
  program
    .command("agent")
    .summary("run the host agent of this machine")
    .description(
      "Runs the host agent of this machine. Environment variables configure it; see docs/configuration.md.",
    )
    .action(async () => {
      const child = cli.options.startProcess("host-agent", [], {});
      await followUntilEnd(cli, child.ended, child.stop);
    });
}

async function up(cli: Cli, options: UpOptions): Promise<void> {
  const env: Record<string, string> = { BERTH_READY_JSON: "true" };
  if (options.port !== undefined) env["BERTH_PORT"] = options.port;
  if (options.dataDir !== undefined) env["BERTH_DATA_DIR"] = options.dataDir;
  if (!options.agent) env["BERTH_AGENT_ENABLED"] = "false";
  const child = cli.options.startProcess("all-in-one", [], {
    env,
    onLine: (line) => printLine(cli, line, options),
  });
  await followUntilEnd(cli, child.ended, child.stop);
}

async function followUntilEnd(cli: Cli, ended: Promise<number>, stop: () => void): Promise<void> {
  cli.options.signal.addEventListener("abort", stop, { once: true });
  const exitCode = await ended;
  if (exitCode === 0 || cli.options.signal.aborted) return;
  throw new CliError(`The process exited with code ${exitCode}.`, {
    exitCode: exitCode === 78 ? exitCodes.usage : exitCodes.failed,
    hints: ["Its last lines above show the reason."],
  });
}

/** Prints the ready line as a summary, and only warnings and errors of the log. */
function printLine(cli: Cli, line: string, options: UpOptions): void {
  const { terminal } = cli;
  const document = parseObject(line);
  if (document && isReadyLine(document)) {
    printReady(cli, document, options);
    return;
  }
  if (options.logs === true || !document || !isLogLine(document)) {
    terminal.note(line);
    return;
  }
  if (!["warn", "error", "fatal"].includes(document.level)) return;
  if (document.msg === "cannot start the process") return; // stderr has the same message
  const tone = document.level === "warn" ? "warn" : "bad";
  const cause = document.err?.message === undefined ? "" : `: ${document.err.message}`;
  terminal.note(
    `${terminal.paintNote(tone, document.level)} ${plainText(`${document.msg}${cause}`)}`,
  );
}

function printReady(cli: Cli, ready: ReadyLine, options: UpOptions): void {
  const { terminal } = cli;
  const dataDir = options.dataDir ?? cli.options.settings.dataDir;
  const elsewhere = dataDir === DEFAULT_DATA_DIR ? "" : `BERTH_DATA_DIR=${dataDir} `;
  terminal.out(`Berth is up at ${terminal.paintOut("bold", ready.apiUrl)}`);
  terminal.out(`  documentation  ${ready.apiUrl}/docs`);
  terminal.out(
    `  job queues     ${ready.apiUrl}/ops/queues (any user name; the password is the admin token)`,
  );
  terminal.out(`  admin token    ${ready.adminTokenFile}`);
  terminal.out(`  next command   ${elsewhere}${cli.options.commandName} get hosts`);
  terminal.out("Ctrl-C stops Berth. Its containers continue to run.");
}

function parseObject(line: string): object | undefined {
  try {
    const document: unknown = JSON.parse(line);
    return typeof document === "object" && document !== null ? document : undefined;
  } catch {
    return undefined;
  }
}
