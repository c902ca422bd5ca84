import type { Command } from "commander";
import type { BerthSet } from "../../contracts/api/sets.ts";
import type { ApiClient } from "../api/api-client.ts";
import type { Cli } from "../cli-context.ts";
import { CliError, usageError } from "../cli-error.ts";
import { exitCodes } from "../exit-codes.ts";
import { getSet, isSetId, servicePath, setPath } from "../api/lookup.ts";
import { listPages } from "../api/list-pages.ts";
import { pickContainer } from "../api/pick-container.ts";

const TAIL_MAX = 10_000;
/** Longer than the 10 s after which the API reports that the agent does not respond. */
const OPEN_TIMEOUT_MS = 20_000;
const SETS_READ_MAX = 500;

export function addLogsCommand(program: Command, cli: Cli): void {
  program
    .command("logs")
    .summary("show the log of a container")
    .description(
      "Shows the log of a container. For a service, selects one of its running sets; for a set, its first container.",
    )
    .argument("<target>", "SET, SET/CONTAINER, SERVICE or SERVICE/CONTAINER")
    .option("-f, --follow", "follow new lines until Ctrl-C")
    .option("--tail <lines>", "number of latest lines to show first", "100")
    .action(async (target: string, options: { follow?: boolean; tail: string }) => {
      await logs(cli, target, options.follow === true, parseTail(options.tail));
    });
}

function parseTail(text: string): number {
  const lines = Number(text);
  if (!/^\d+$/.test(text) || lines > TAIL_MAX)
    throw usageError(`--tail ${text} is not a number from 0 to ${TAIL_MAX}.`);
  return lines;
}

async function logs(cli: Cli, target: string, follow: boolean, tail: number): Promise<void> {
  const [owner = "", containerName] = target.split("/");
  const api = await cli.api();
  const set = isSetId(owner) ? await getSet(api, owner) : await pickSet(cli, api, owner);
  const container = pickContainer(cli, set, containerName);
  const headersDeadline = new AbortController();
  const timer = setTimeout(() => headersDeadline.abort(), OPEN_TIMEOUT_MS);
  const response = await api
    .open("GET", `${setPath(set.id)}/containers/${container}/logs`, {
      query: { follow, tail },
      accept: "text/plain",
      isTriedOnce: true,
      timeoutMs: 0,
      signal: headersDeadline.signal,
    })
    .finally(() => clearTimeout(timer));
  try {
    for await (const chunk of response.body ?? []) cli.terminal.outRaw(chunk);
  } catch (error) {
    if (cli.options.signal.aborted) return;
    throw new CliError("The log ended early: the connection to the host broke.", {
      exitCode: exitCodes.unavailable,
      hints: [`\`berth get set ${set.id}\` shows the state and the host of the set.`],
      cause: error,
    });
  }
}

/** Picks a set with a host: a ready one first, then the newest, which shows a new problem. */
async function pickSet(cli: Cli, api: ApiClient, service: string): Promise<BerthSet> {
  await api.request("GET", servicePath(service));
  const { items } = await listPages<BerthSet>(api, "/v1/sets", SETS_READ_MAX, { service });
  const rank = (set: BerthSet): number => (set.ready ? 2 : set.containers.length > 0 ? 1 : 0);
  const [set] = items
    .filter((candidate) => candidate.host !== null)
    .sort((a, b) => rank(b) - rank(a) || (a.id < b.id ? 1 : -1));
  if (!set) {
    throw new CliError(`Service ${service} has no set on a host.`, {
      exitCode: exitCodes.failed,
      hints: [`\`berth explain ${service}\` shows the reason.`],
    });
  }
  if (items.length > 1)
    cli.terminal.note(`${set.id} on ${set.host?.name ?? "?"}, one of ${items.length} sets`);
  return set;
}
