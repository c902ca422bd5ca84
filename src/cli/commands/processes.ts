import type { Command } from "commander";
import { z } from "zod";
import type { Cli } from "../cli-context.ts";
import { CliError } from "../cli-error.ts";
import { exitCodes } from "../exit-codes.ts";
import { plainText } from "../output/plain-text.ts";

/** Where `berth` looks for a local Berth unless it is told otherwise: see src/config/cli.ts. */
const DEFAULT_DATA_DIR = ".berth";

/** What the all-in-one process says once it serves. */
const readyLine = z.object({
  ready: z.literal(true),
  apiUrl: z.string(),
  adminTokenFile: z.string(),
});
const logLine = z.object({
  level: z.string(),
  msg: z.string(),
  err: z.object({ message: z.string() }).partial().optional(),
});

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
  const document = parseJson(line);
  const ready = readyLine.safeParse(document);
  if (ready.success) {
    printReady(cli, ready.data, options);
    return;
  }
  const log = logLine.safeParse(document);
  if (options.logs === true || !log.success) {
    terminal.note(line);
    return;
  }
  if (!["warn", "error", "fatal"].includes(log.data.level)) return;
  if (log.data.msg === "did not start") return; // it says so on standard error, too
  const tone = log.data.level === "warn" ? "warn" : "bad";
  const cause = log.data.err?.message === undefined ? "" : `: ${log.data.err.message}`;
  terminal.note(
    `${terminal.paintNote(tone, log.data.level)} ${plainText(`${log.data.msg}${cause}`)}`,
  );
}

function printReady(cli: Cli, ready: z.infer<typeof readyLine>, options: UpOptions): void {
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

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line) as unknown;
  } catch {
    return undefined;
  }
}
