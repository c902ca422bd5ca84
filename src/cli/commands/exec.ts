import type { Command } from "commander";
import type { SessionOpen } from "../../contracts/sessions/frames.ts";
import { getSet, setPath } from "../api/lookup.ts";
import { pickContainer } from "../api/pick-container.ts";
import { runSession } from "../api/session-client.ts";
import type { Cli } from "../cli-context.ts";
import { usageError } from "../cli-error.ts";

interface ExecOptions {
  container?: string;
  interactive?: boolean;
  tty?: boolean;
  user?: string;
}

export function addSessionCommands(program: Command, cli: Cli): void {
  program
    .command("exec")
    .summary("run a program in a container")
    .description(
      "Runs a program in a container of a set, and exits with its code. The code is 255 if the session fails.",
    )
    .argument("<set>", "SET or SET/CONTAINER")
    .argument("<command...>", "the program and its arguments, after --")
    .option("-c, --container <name>", "container; the first one by default")
    .option("-i, --interactive", "pass on standard input")
    .option("-t, --tty", "give the program a terminal")
    .option("-u, --user <user>", "user or id in the container; that of the container by default")
    .action(async (target: string, command: string[], options: ExecOptions) => {
      await exec(cli, target, command, options);
    });
  program
    .command("attach")
    .summary("follow the output of a container's main process")
    .description(
      "Follows the output of the main process of a container from now on, and exits with its code. Ctrl-C ends only this command.",
    )
    .argument("<set>", "SET or SET/CONTAINER")
    .option("-c, --container <name>", "container; the first one by default")
    .action(async (target: string, options: { container?: string }) => {
      const open = { command: [], stdin: false, tty: false };
      await run(cli, target, { kind: "attach", container: options.container, open });
    });
}

async function exec(
  cli: Cli,
  target: string,
  command: string[],
  { container, interactive = false, tty = false, user }: ExecOptions,
): Promise<void> {
  const { term } = cli.options;
  const open: SessionOpen = {
    command,
    stdin: interactive,
    tty,
    ...(tty && term !== undefined ? { env: { TERM: term } } : {}),
    ...(user === undefined ? {} : { user }),
  };
  await run(cli, target, { kind: "exec", container, open });
}

async function run(
  cli: Cli,
  target: string,
  { kind, container, open }: { kind: string; container: string | undefined; open: SessionOpen },
): Promise<void> {
  const [setId = "", named] = target.split("/");
  const console = cli.options.openConsole();
  if (open.tty && open.stdin && !console.isInputTerminal)
    throw usageError("Standard input is not a terminal. Omit -t.");
  const set = await getSet(await cli.api(), setId);
  const path = `${setPath(set.id)}/containers/${pickContainer(cli, set, container ?? named)}/${kind}`;
  const size = open.tty ? console.size() : undefined;
  cli.exitCode = await runSession(cli, path, { ...open, ...size }, console);
}
