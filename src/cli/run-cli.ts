import { Command, CommanderError, Option } from "commander";
import { Cli, type CliOptions, outputFormats } from "./cli-context.ts";
import { CliError } from "./cli-error.ts";
import { addCommandsFor } from "./commands/command-groups.ts";
import { exitCodes } from "./exit-codes.ts";
import { renderError } from "./output/render-error.ts";

/** Runs one command line. Resolves with the exit code (docs/cli.md lists them); never rejects. */
export async function runCli(options: CliOptions): Promise<number> {
  const program = new Command("berth");
  const cli = new Cli(options, program);
  describeProgram(program, cli);
  try {
    await addCommandsFor(options.argv, program, cli);
    await program.parseAsync([...options.argv], { from: "user" });
    if (cli.exitCode !== undefined) return cli.exitCode;
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
      new Option("-o, --output <format>", "format of the results")
        .choices(outputFormats)
        .default("table"),
    )
    .option("--api-url <url>", "URL of the API (BERTH_API_URL)")
    .option("--token-file <file>", "file with the token (BERTH_TOKEN, BERTH_TOKEN_FILE)")
    .option("--tenant <name>", "tenant of the request, for tokens without a tenant (BERTH_TENANT)")
    .option("--context <name>", "context of ~/.config/berth/config.json (BERTH_CONTEXT)")
    .configureHelp({ showGlobalOptions: true, helpWidth: terminal.columns })
    .configureOutput({
      writeOut: (text) => terminal.out(text.trimEnd()),
      writeErr: (text) => terminal.note(text.trimEnd()),
    })
    .showSuggestionAfterError()
    .exitOverride()
    .hook("preAction", async () => await cli.prepareOutput());
}

function exitCodeOf(error: unknown, cli: Cli): number {
  // Commander has printed its message already. A request for help is not an error.
  if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
  if (cli.options.signal.aborted) return exitCodes.interrupted;
  const reported =
    error instanceof CliError
      ? error
      : new CliError(
          `Internal error of the command line: ${error instanceof Error ? error.message : String(error)}`,
          {
            exitCode: exitCodes.failed,
            hints: ["This is a bug of `berth`, not of your request. Please report it."],
          },
        );
  renderError(cli.terminal, reported);
  return reported.exitCode;
}
