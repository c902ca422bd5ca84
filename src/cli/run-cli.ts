import { Command, CommanderError, Option } from "commander";
import { Cli, type CliOptions, outputFormats } from "./cli-context.ts";
import { CliError } from "./cli-error.ts";
import { addAccessCommands } from "./commands/access.ts";
import { addApplyCommand } from "./commands/apply.ts";
import { addBenchCommand } from "./commands/bench.ts";
import { addCompletionCommands } from "./commands/completion.ts";
import { addDemandCommand } from "./commands/demand.ts";
import { addDeleteCommand } from "./commands/delete.ts";
import { addEventsCommand } from "./commands/events.ts";
import { addExplainCommand } from "./commands/explain.ts";
import { addGetCommand } from "./commands/get.ts";
import { addHookCommand } from "./commands/hook.ts";
import { addHostCommands } from "./commands/host.ts";
import { addLogsCommand } from "./commands/logs.ts";
import { addPlanCommand } from "./commands/plan.ts";
import { addPoolCommand } from "./commands/pool.ts";
import { addProcessCommands } from "./commands/processes.ts";
import { addResizeCommand } from "./commands/resize.ts";
import { addScaleCommand } from "./commands/scale.ts";
import { addSetCommand } from "./commands/set.ts";
import { addTopCommand } from "./commands/top.ts";
import { addVolumeCommand } from "./commands/volume.ts";
import { addWaitCommand } from "./commands/wait.ts";
import { exitCodes } from "./exit-codes.ts";
import { printDocument } from "./output/print-items.ts";
import { renderError } from "./output/render-error.ts";

/** Runs one command line. Resolves with the exit code (docs/cli.md lists them); never rejects. */
export async function runCli(options: CliOptions): Promise<number> {
  const program = new Command("berth");
  const cli = new Cli(options, program);
  describeProgram(program, cli);
  addCommands(program, cli);
  try {
    await program.parseAsync([...options.argv], { from: "user" });
    return options.signal.aborted ? exitCodes.interrupted : exitCodes.ok;
  } catch (error) {
    options.terminal.endLive();
    return exitCodeOf(error, cli);
  }
}

function describeProgram(program: Command, cli: Cli): void {
  const { terminal, version } = cli.options;
  program
    .description("Runs sets of containers on a fleet of Docker hosts, and scales them in seconds.")
    .version(version, "-V, --version", "print the version")
    .addOption(
      new Option("-o, --output <format>", "how results are printed")
        .choices(outputFormats)
        .default("table"),
    )
    .option("--api-url <url>", "where the API is (BERTH_API_URL)")
    .option("--token-file <file>", "file with the token (BERTH_TOKEN, BERTH_TOKEN_FILE)")
    .option("--tenant <name>", "whose things, for callers without a tenant (BERTH_TENANT)")
    .option("--context <name>", "a context of ~/.config/berth/config.json (BERTH_CONTEXT)")
    .configureHelp({ showGlobalOptions: true, helpWidth: terminal.columns })
    .configureOutput({
      writeOut: (text) => terminal.out(text.trimEnd()),
      writeErr: (text) => terminal.note(text.trimEnd()),
    })
    .showSuggestionAfterError()
    .exitOverride();
}

/** In the order of the help. Subcommands inherit how errors and output are treated when they are made. */
function addCommands(program: Command, cli: Cli): void {
  addApplyCommand(program, cli);
  addGetCommand(program, cli);
  addTopCommand(program, cli);
  addScaleCommand(program, cli);
  addResizeCommand(program, cli);
  addDeleteCommand(program, cli);
  addSetCommand(program, cli);
  addVolumeCommand(program, cli);
  addPlanCommand(program, cli);
  addExplainCommand(program, cli);
  addWaitCommand(program, cli);
  addEventsCommand(program, cli);
  addLogsCommand(program, cli);
  addHostCommands(program, cli);
  addHookCommand(program, cli);
  addDemandCommand(program, cli);
  addAccessCommands(program, cli);
  addPoolCommand(program, cli);
  addProcessCommands(program, cli);
  addBenchCommand(program, cli);
  addCompletionCommands(program, cli);
  program
    .command("version")
    .description("print the version")
    .action(() => {
      if (cli.isForPrograms) printDocument(cli, { version: cli.options.version });
      else cli.terminal.out(cli.options.version);
    });
}

function exitCodeOf(error: unknown, cli: Cli): number {
  // Commander has printed what it has to say; help that was asked for is no error.
  if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
  if (cli.options.signal.aborted) return exitCodes.interrupted;
  const told =
    error instanceof CliError
      ? error
      : new CliError(
          `This should not have happened: ${error instanceof Error ? error.message : String(error)}`,
          {
            exitCode: exitCodes.failed,
            hints: ["It is a fault of this command, not of what you asked for."],
          },
        );
  renderError(cli.terminal, told);
  return told.exitCode;
}
