import type { Command } from "commander";
import type { Host } from "../../contracts/hosts.ts";
import type { ApiClient } from "../api-client.ts";
import type { Cli } from "../cli.ts";
import { CliError, usageError } from "../cli-error.ts";
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
    .command("label")
    .description("set labels of a host, or remove them")
    .argument("<host>", "name or id")
    .argument("<labels...>", "key=value to set, key- to remove")
    .action(async (nameOrId: string, changes: string[]) => {
      const api = await cli.api();
      const host = await getHost(api, nameOrId);
      const labels = { ...host.labels };
      for (const { key, value } of changes.map(parseChange)) {
        if (value === undefined) delete labels[key];
        else labels[key] = value;
      }
      printItem(cli, hostColumns, await patchHost(api, host, { labels }));
    });
  program
    .command("taint")
    .description("keep sets off a host unless they tolerate it, or let them again")
    .argument("<host>", "name or id")
    .argument("<taints...>", "key=value or key= to set, key- to remove")
    .action(async (nameOrId: string, changes: string[]) => {
      const api = await cli.api();
      const host = await getHost(api, nameOrId);
      const taints = new Map(host.taints.map(({ key, value }) => [key, value]));
      for (const { key, value } of changes.map(parseChange)) {
        if (value === undefined) taints.delete(key);
        else taints.set(key, value);
      }
      const body = { taints: [...taints].map(([key, value]) => ({ key, value })) };
      printItem(cli, hostColumns, await patchHost(api, host, body));
    });
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

async function patchHost(api: ApiClient, host: Host, body: unknown): Promise<Host> {
  return await api.request<Host>("PATCH", `/v1/hosts/${host.id}`, {
    body,
    generation: host.generation,
  });
}

/** "disk=nvme" sets, "disk-" removes. */
function parseChange(text: string): { key: string; value: string | undefined } {
  const at = text.indexOf("=");
  if (at > 0) return { key: text.slice(0, at), value: text.slice(at + 1) };
  if (at < 0 && text.length > 1 && text.endsWith("-"))
    return { key: text.slice(0, -1), value: undefined };
  throw usageError(`"${text}" is neither key=value nor key-.`);
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
