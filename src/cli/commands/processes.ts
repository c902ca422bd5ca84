import type { Command } from "commander";
import type { Cli } from "../cli-context.ts";
import { CliError } from "../cli-error.ts";
import { exitCodes } from "../exit-codes.ts";
import { plainText } from "../output/plain-text.ts";

/** Where `berth` looks for a local Berth unless it is told otherwise: see src/config/cli.ts. */
const DEFAULT_DATA_DIR = ".berth";

/** The line that the all-in-one process writes once it serves. */
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

/** A line of our own process: one member tells the two kinds apart. */
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

/** Commands that are processes of Berth: they run until they are stopped, and end as their process ends. */
export function addProcessCommands(program: Command, cli: Cli): void {
  program
    .command("up")
    .summary("run Berth on this machine: API, jobs and agent in one")
    .description(
      "Runs API, jobs and host agent in one process, with what it keeps in a data directory. In the same directory, `berth` finds it by itself.",
    )
    .option("--port <port>", "where the API listens (BERTH_PORT)")
    .option("--data-dir <dir>", "where it keeps its things (BERTH_DATA_DIR)")
    .option("--no-agent", "without a host agent: this machine runs no sets")
    .option("--logs", "print the whole log, as JSON")
    .action(async (options: UpOptions) => await up(cli, options));
  program
    .command("agent")
    .summary("run the host agent of this machine")
    .description(
      "Runs the host agent of this machine. It is configured by the environment: see docs/cli.md.",
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
  throw new CliError(`It ended with exit code ${exitCode}.`, {
    exitCode: exitCode === 78 ? exitCodes.usage : exitCodes.failed,
    hints: ["What it wrote last, above, says why."],
  });
}

/** The ready line becomes a few lines for people; of the log, what somebody should look at is shown. */
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
  if (document.msg === "did not start") return; // it says so on standard error, too
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
    `  job queues     ${ready.apiUrl}/ops/queues (any user, the admin token as password)`,
  );
  terminal.out(`  admin token    in ${ready.adminTokenFile}`);
  terminal.out(`  try            ${elsewhere}berth get hosts`);
  terminal.out("Ctrl-C stops it; the containers it started go on.");
}

function parseObject(line: string): object | undefined {
  try {
    const document: unknown = JSON.parse(line);
    return typeof document === "object" && document !== null ? document : undefined;
  } catch {
    return undefined;
  }
}
