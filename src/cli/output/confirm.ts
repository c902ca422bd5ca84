import type { Cli } from "../cli-context.ts";
import { CliError } from "../cli-error.ts";
import { exitCodes } from "../exit-codes.ts";

/** Asks on stderr. Throws a usage error with the text `refusal` unless the user types yes. */
export async function confirm(cli: Cli, question: string, refusal: string): Promise<void> {
  cli.terminal.note(question);
  cli.terminal.note("Type yes to continue:");
  if ((await firstLine(cli.options.stdin)).trim().toLowerCase() === "yes") return;
  throw new CliError(refusal, { exitCode: exitCodes.usage });
}

async function firstLine(stdin: AsyncIterable<Uint8Array | string>): Promise<string> {
  let text = "";
  for await (const chunk of stdin) {
    text += typeof chunk === "string" ? chunk : Buffer.from(chunk).toString("utf8");
    if (text.includes("\n") || text.length > 1_000) break;
  }
  return text.split("\n")[0] ?? "";
}
