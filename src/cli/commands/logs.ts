import type { Command } from "commander";
import type { BerthSet } from "../../contracts/api/sets.ts";
import type { ApiClient } from "../api/api-client.ts";
import type { Cli } from "../cli-context.ts";
import { CliError, usageError } from "../cli-error.ts";
import { exitCodes } from "../exit-codes.ts";
import { getSet, isSetId, servicePath, setPath } from "../api/lookup.ts";
import { listPages } from "../api/list-pages.ts";

const TAIL_MAX = 10_000;
/** The API gives an agent 10 s to come with the log. */
const OPEN_TIMEOUT_MS = 20_000;
const SETS_LOOKED_AT_MAX = 500;

export function addLogsCommand(program: Command, cli: Cli): void {
  program
    .command("logs")
    .summary("show what a container writes")
    .description(
      "Shows what a container writes. Of a service, a running set is chosen; of a set, its first container.",
    )
    .argument("<target>", "SET, SET/CONTAINER, SERVICE or SERVICE/CONTAINER")
    .option("-f, --follow", "go on with what comes, until Ctrl-C")
    .option("--tail <lines>", "how many of the last lines first", "100")
    .action(async (target: string, options: { follow?: boolean; tail: string }) => {
      await logs(cli, target, options.follow === true, parseTail(options.tail));
    });
}

function parseTail(text: string): number {
  const lines = Number(text);
  if (!/^\d+$/.test(text) || lines > TAIL_MAX)
    throw usageError(`--tail ${text}: expected a number from 0 to ${TAIL_MAX}.`);
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
    throw new CliError("The log broke off: the host, or the way to it, is gone.", {
      exitCode: exitCodes.unavailable,
      hints: [`\`berth get set ${set.id}\` shows where it is now.`],
      cause: error,
    });
  }
}

/** A set of the service that runs, ready ones and newer ones first, so that a fresh problem shows. */
async function pickSet(cli: Cli, api: ApiClient, service: string): Promise<BerthSet> {
  await api.request("GET", servicePath(service));
  const { items } = await listPages<BerthSet>(api, "/v1/sets", SETS_LOOKED_AT_MAX, { service });
  const rank = (set: BerthSet): number => (set.ready ? 2 : set.containers.length > 0 ? 1 : 0);
  const [set] = items
    .filter((candidate) => candidate.host !== null)
    .sort((a, b) => rank(b) - rank(a) || (a.id < b.id ? 1 : -1));
  if (!set) {
    throw new CliError(`No set of ${service} is on a host.`, {
      exitCode: exitCodes.failed,
      hints: [`\`berth explain ${service}\` says why.`],
    });
  }
  if (items.length > 1)
    cli.terminal.note(`${set.id} on ${set.host?.name ?? "?"}, one of ${items.length} sets`);
  return set;
}

function pickContainer(cli: Cli, set: BerthSet, wanted: string | undefined): string {
  const names = set.containers.map(({ name }) => name).filter((name) => name !== "infra");
  if (wanted !== undefined) {
    if (names.includes(wanted) || (names.length === 0 && /^[a-z0-9-]+$/.test(wanted)))
      return wanted;
    throw new CliError(`The set has no container "${wanted}"; it has: ${names.join(", ")}.`, {
      exitCode: exitCodes.notFound,
    });
  }
  const [first] = names;
  if (first === undefined) {
    throw new CliError(`${set.id} has no containers yet: it is ${set.state}.`, {
      exitCode: exitCodes.failed,
      hints: [`\`berth explain ${set.id}\` says why.`],
    });
  }
  if (names.length > 1)
    cli.terminal.note(`container ${first}; the others are ${names.slice(1).join(", ")}`);
  return first;
}
