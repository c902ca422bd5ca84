import type { BerthSet } from "../../contracts/api/sets.ts";
import type { Cli } from "../cli-context.ts";
import { CliError } from "../cli-error.ts";
import { exitCodes } from "../exit-codes.ts";

/**
 * The container of the set that the user names, or its first one. It is never infra. Throws a
 * CliError if there is none.
 */
export function pickContainer(cli: Cli, set: BerthSet, wanted: string | undefined): string {
  const names = set.containers.map(({ name }) => name).filter((name) => name !== "infra");
  if (wanted !== undefined) {
    if (names.includes(wanted) || (names.length === 0 && /^[a-z0-9-]+$/.test(wanted)))
      return wanted;
    throw new CliError(
      `The set has no container "${wanted}". Its containers: ${names.join(", ")}.`,
      {
        exitCode: exitCodes.notFound,
      },
    );
  }
  const [first] = names;
  if (first === undefined) {
    throw new CliError(`Set ${set.id} has no containers yet. Its state is ${set.state}.`, {
      exitCode: exitCodes.failed,
      hints: [`\`berth explain ${set.id}\` shows the reason.`],
    });
  }
  if (names.length > 1)
    cli.terminal.note(`container ${first} (other containers: ${names.slice(1).join(", ")})`);
  return first;
}
