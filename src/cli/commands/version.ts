import type { Command } from "commander";
import type { Cli } from "../cli-context.ts";
import { printDocument } from "../output/print-items.ts";

export function addVersionCommand(program: Command, cli: Cli): void {
  program
    .command("version")
    .description("print the version")
    .action(() => {
      if (cli.isForPrograms) printDocument(cli, { version: cli.options.version });
      else cli.terminal.out(cli.options.version);
    });
}
