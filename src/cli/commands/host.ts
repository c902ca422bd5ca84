import type { Command } from "commander";
import type { Host } from "../../contracts/hosts.ts";
import type { ApiClient } from "../api-client.ts";
import type { Cli } from "../cli.ts";
import { CliError } from "../cli-error.ts";
import { exitCodes } from "../exit-codes.ts";
import { getHost } from "../find-things.ts";
import { printItem } from "../print-items.ts";
import { hostColumns } from "../resources.ts";
import { DEFAULT_WAIT, parseTimeout } from "../wait-for.ts";

const POLL_MS = 1_000;

export function addHostCommands(program: Command, cli: Cli): void {
  for (const [verb, summary] of [
    ["cordon", "let a host take no new sets"],
    ["uncordon", "let a host take sets again"],
  ] as const) {
    program
      .command(verb)
      .description(summary)
      .argument("<host>", "name or id")
      .action(async (nameOrId: string) => {
        const api = await cli.api();
        printItem(cli, hostColumns, await changeHost(api, nameOrId, verb));
      });
  }
  program
    .command("drain")
    .description("move all sets of a host elsewhere, and let it take no new ones")
    .argument("<host>", "name or id")
    .option("--wait", "wait until it has no sets")
    .option("--timeout <time>", "how long to wait at most", DEFAULT_WAIT)
    .action(async (nameOrId: string, options: { wait?: boolean; timeout: string }) => {
      const timeoutSeconds = parseTimeout(options.timeout);
      const api = await cli.api();
      const host = await changeHost(api, nameOrId, "drain");
      const after =
        options.wait === true ? await waitDrained(cli, api, host, timeoutSeconds) : host;
      printItem(cli, hostColumns, after);
    });
}

async function changeHost(api: ApiClient, nameOrId: string, verb: string): Promise<Host> {
  const host = await getHost(api, nameOrId);
  return await api.request<Host>("POST", `/v1/hosts/${host.id}/${verb}`);
}

async function waitDrained(
  cli: Cli,
  api: ApiClient,
  host: Host,
  timeoutSeconds: number,
): Promise<Host> {
  const deadline = cli.now + timeoutSeconds * 1000;
  let latest = host;
  while (latest.sets > 0) {
    const line = `${host.name}  ${latest.sets} sets left`;
    if (cli.now >= deadline) {
      cli.terminal.endLive();
      throw new CliError(`${host.name} was not empty within ${timeoutSeconds} s: ${line}.`, {
        exitCode: exitCodes.timedOut,
        hints: [`It goes on. \`berth get sets --host ${host.name}\` shows what is left.`],
      });
    }
    if (cli.terminal.isStderrTty) cli.terminal.live(line);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    const before = latest.sets;
    latest = await api.request<Host>("GET", `/v1/hosts/${host.id}`);
    if (!cli.terminal.isStderrTty && latest.sets !== before)
      cli.terminal.note(`${host.name}  ${latest.sets} sets left`);
  }
  cli.terminal.endLive();
  return latest;
}
