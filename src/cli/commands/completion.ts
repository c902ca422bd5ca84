import type { Command } from "commander";
import type { Cli } from "../cli-context.ts";
import { usageError } from "../cli-error.ts";
import { completeWords, completionScript, shells } from "../completion/complete-words.ts";

export function addCompletionCommands(program: Command, cli: Cli): void {
  program
    .command("completion")
    .summary("print the completion script of a shell")
    .description(
      "Prints a script that completes commands, options and names. Source it in your shell.",
    )
    .argument("<shell>", shells.join(", "))
    .action((name: string) => {
      const shell = shells.find((known) => known === name);
      if (!shell) throw usageError(`"${name}" is not a supported shell. Use ${shells.join(", ")}.`);
      cli.terminal.out(completionScript(shell).trimEnd());
    });
  program
    .command("__complete", { hidden: true })
    .argument("[words...]")
    .action(async (words: string[]) => {
      const candidates = await completeWords(program, cli, words);
      if (candidates.length > 0) cli.terminal.out(candidates.join("\n"));
    });
}
