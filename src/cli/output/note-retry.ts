import type { Cli } from "../cli-context.ts";
import type { CliError } from "../cli-error.ts";
import { formatDuration } from "./format-amounts.ts";

/** Notes that a stream broke, and when the next connection is. */
export function noteRetry(cli: Cli, error: CliError | undefined, delayMs: number): void {
  const cause = error?.message ?? "The stream ended.";
  cli.terminal.note(`${cause} Retrying in ${formatDuration(delayMs)}.`);
}
