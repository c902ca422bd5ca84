import { type Command, Option } from "commander";
import type { Tenant, Token } from "../../contracts/api/tenancy.ts";
import type { Decision, Demand, Hook } from "../../contracts/api/autoscaling.ts";
import type { BerthEvent } from "../../contracts/api/events.ts";
import type { Host, HostPool } from "../../contracts/api/hosts.ts";
import type { Network } from "../../contracts/api/networks.ts";
import type { Registry } from "../../contracts/api/registries.ts";
import type { Rule } from "../../contracts/api/rules.ts";
import type { Service } from "../../contracts/api/services.ts";
import type { BerthSet } from "../../contracts/api/sets.ts";
import type { Volume } from "../../contracts/api/volumes.ts";
import type { ApiClient } from "../api/api-client.ts";
import type { Cli } from "../cli-context.ts";
import { CliError, usageError } from "../cli-error.ts";
import { exitCodes } from "../exit-codes.ts";
import { getHost, getRule, getService, getSet, servicePath } from "../api/lookup.ts";
import { listPages } from "../api/list-pages.ts";
import { printItem, printItems } from "../output/print-items.ts";
import { getEndpoints } from "./get-endpoints.ts";
import {
  type Column,
  decisionColumns,
  demandColumns,
  eventColumns,
  hookColumns,
  hostColumns,
  poolColumns,
  registryColumns,
  serviceColumns,
  setColumns,
  tenantColumns,
  tokenColumns,
  volumeColumns,
} from "../output/columns.ts";
import { networkColumns, ruleColumns } from "../output/network-columns.ts";

interface GetOptions {
  limit: string;
  service?: string;
  host?: string;
  state?: string;
  set?: string;
  kind?: string;
  network?: string;
  follow?: true;
}

const LIMIT_DEFAULT = 500;
const LIMIT_MAX = 200_000;

/** The kinds of resources that `berth get` lists, with their aliases. */
export const getKinds = {
  services: ["service", "svc"],
  sets: ["set"],
  hosts: ["host"],
  events: ["event"],
  decisions: ["decision"],
  demands: ["demand"],
  hooks: ["hook"],
  tokens: ["token"],
  tenants: ["tenant"],
  pools: ["pool"],
  volumes: ["volume"],
  registries: ["registry"],
  networks: ["network", "net"],
  rules: ["rule"],
  endpoints: ["endpoint", "ep"],
} as const;
type Kind = keyof typeof getKinds;

/** The kinds that each filter applies to. For other kinds the command rejects the option. */
const filters = {
  service: ["sets", "volumes", "events", "decisions", "demands", "hooks", "rules"],
  network: ["rules"],
  host: ["sets", "volumes", "events"],
  state: ["sets", "volumes"],
  set: ["events"],
  kind: ["events"],
  follow: ["endpoints"],
} as const satisfies Partial<Record<keyof GetOptions, readonly Kind[]>>;

export function addGetCommand(program: Command, cli: Cli): void {
  program
    .command("get")
    .summary("list resources, or show one")
    .description(
      "Lists resources of a kind, or shows one. Demands and hooks belong to a service; without its name, all services are listed. Endpoints need the name of a service.",
    )
    .argument("<kind>", Object.keys(getKinds).join(", "))
    .argument(
      "[name]",
      "name or id of a resource; for demands, hooks and endpoints, of their service",
    )
    .option("--limit <count>", "maximum number of resources", String(LIMIT_DEFAULT))
    .option("--service <name>", "only resources of this service")
    .option("--host <host>", "only resources on this host (sets, volumes, events)")
    .option("--state <state>", "only resources in this state (sets, volumes)")
    .addOption(new Option("--set <id>", "only events of this set"))
    .addOption(new Option("--kind <kind>", "only events of this kind"))
    .addOption(new Option("--network <network>", "only rules of this network"))
    .option("-f, --follow", "show the endpoints again after each change, until Ctrl-C")
    .action(async (kind: string, name: string | undefined, options: GetOptions) => {
      await get(cli, parseKind(kind), name, options);
    });
}

function parseKind(word: string): Kind {
  for (const [kind, aliases] of Object.entries(getKinds)) {
    if (kind === word || (aliases as readonly string[]).includes(word)) return kind as Kind;
  }
  throw usageError(`"${word}" is not a kind of resource. Use ${Object.keys(getKinds).join(", ")}.`);
}

async function get(
  cli: Cli,
  kind: Kind,
  name: string | undefined,
  options: GetOptions,
): Promise<void> {
  assertFiltersApply(kind, options);
  const limit = parseLimit(options.limit);
  const api = await cli.api();
  const list = async <T>(
    columns: readonly Column<T>[],
    path: string,
    query: Record<string, string | undefined> = {},
  ): Promise<void> => {
    const { items, isCut } = await listPages<T>(api, path, limit, query);
    printItems(cli, kind, columns, items);
    noteCut(cli, limit, isCut);
  };
  switch (kind) {
    case "services":
      if (name !== undefined) printItem(cli, serviceColumns, await getService(api, name));
      else await list<Service>(serviceColumns, "/v1/services");
      return;
    case "sets":
      if (name !== undefined) printItem(cli, setColumns, await getSet(api, name));
      else await list<BerthSet>(setColumns, "/v1/sets", await setQuery(api, options));
      return;
    case "volumes":
      if (name !== undefined)
        await pickOrList(cli, api, kind, volumeColumns, "/v1/volumes", name, limit);
      else await list<Volume>(volumeColumns, "/v1/volumes", await setQuery(api, options));
      return;
    case "hosts":
      if (name !== undefined) printItem(cli, hostColumns, await getHost(api, name));
      else await list<Host>(hostColumns, "/v1/hosts");
      return;
    case "events":
      await list<BerthEvent>(eventColumns, "/v1/events", await eventQuery(api, name, options));
      return;
    case "decisions":
      if (name !== undefined) await getService(api, name);
      await list<Decision>(decisionColumns, "/v1/decisions", { service: name ?? options.service });
      return;
    case "demands":
      await printPerService(cli, api, kind, demandColumns, name ?? options.service, limit);
      return;
    case "hooks":
      await printPerService(cli, api, kind, hookColumns, name ?? options.service, limit);
      return;
    case "tokens":
      await pickOrList(cli, api, kind, tokenColumns, "/v1/tokens", name, limit);
      return;
    case "tenants":
      await pickOrList(cli, api, kind, tenantColumns, "/v1/tenants", name, limit);
      return;
    case "pools":
      await pickOrList(cli, api, kind, poolColumns, "/v1/host-pools", name, limit);
      return;
    case "registries":
      await pickOrList(cli, api, kind, registryColumns, "/v1/registries", name, limit);
      return;
    case "networks":
      await pickOrList(cli, api, kind, networkColumns, "/v1/networks", name, limit);
      return;
    case "rules":
      if (name !== undefined) printItem(cli, ruleColumns, await getRule(api, name));
      else await list<Rule>(ruleColumns, "/v1/rules", ruleQuery(options));
      return;
    case "endpoints":
      await getEndpoints(cli, api, name, options);
      return;
  }
}

function capitalize(word: string): string {
  return word.slice(0, 1).toUpperCase() + word.slice(1);
}

function assertFiltersApply(kind: Kind, options: GetOptions): void {
  for (const [option, kinds] of Object.entries(filters)) {
    const isGiven = options[option as keyof typeof filters] !== undefined;
    if (isGiven && !(kinds as readonly Kind[]).includes(kind))
      throw usageError(`--${option} does not apply to ${kind}. It applies to ${kinds.join(", ")}.`);
  }
}

function parseLimit(text: string): number {
  const limit = Number(text);
  if (!Number.isInteger(limit) || limit < 1 || limit > LIMIT_MAX)
    throw usageError(`--limit ${text} is not a number from 1 to ${LIMIT_MAX}.`);
  return limit;
}

function noteCut(cli: Cli, limit: number, isCut: boolean): void {
  if (isCut)
    cli.terminal.note(
      cli.terminal.paintNote(
        "dim",
        `Only the first ${limit} are shown. --limit raises this number.`,
      ),
    );
}

function ruleQuery({ network, service }: GetOptions): Record<string, string | undefined> {
  return { network, service };
}

async function setQuery(
  api: ApiClient,
  options: GetOptions,
): Promise<Record<string, string | undefined>> {
  return {
    service: options.service,
    state: options.state,
    host: options.host === undefined ? undefined : (await getHost(api, options.host)).id,
  };
}

async function eventQuery(
  api: ApiClient,
  service: string | undefined,
  options: GetOptions,
): Promise<Record<string, string | undefined>> {
  return {
    service: service ?? options.service,
    set: options.set,
    kind: options.kind,
    host: options.host === undefined ? undefined : (await getHost(api, options.host)).id,
  };
}

/** Lists a kind, or shows one item of the list. The API has no operation for a single item. */
async function pickOrList<T extends Token | Tenant | HostPool | Volume | Registry | Network>(
  cli: Cli,
  api: ApiClient,
  kind: Kind,
  columns: readonly Column<T>[],
  path: string,
  name: string | undefined,
  limit: number,
): Promise<void> {
  if (name === undefined) {
    const { items, isCut } = await listPages<T>(api, path, limit);
    printItems(cli, kind, columns, items);
    noteCut(cli, limit, isCut);
    return;
  }
  const { items } = await listPages<T>(api, path, LIMIT_MAX);
  const found = items.find(
    (item) =>
      ("name" in item && item.name === name) ||
      ("registry" in item && item.registry === name) ||
      ("id" in item && item.id === name),
  );
  if (!found) {
    throw new CliError(`${capitalize(getKinds[kind][0])} "${name}" not found.`, {
      exitCode: exitCodes.notFound,
      hints: [`\`berth get ${kind}\` lists all ${kind}.`],
    });
  }
  printItem(cli, columns, found);
}

/** Prints the hooks or demands of one service, or of all services. */
async function printPerService<T extends Hook | (Demand & { service: string })>(
  cli: Cli,
  api: ApiClient,
  kind: "hooks" | "demands",
  columns: readonly Column<T>[],
  service: string | undefined,
  limit: number,
): Promise<void> {
  const names =
    service === undefined
      ? (await listPages<Service>(api, "/v1/services", LIMIT_MAX)).items.map(({ name }) => name)
      : [service];
  const items: T[] = [];
  for (const name of names) {
    if (items.length >= limit) break;
    const path = `${servicePath(name)}/${kind}`;
    const listing = await listPages<T>(api, path, limit - items.length);
    items.push(...listing.items.map((item) => ({ ...item, service: name })));
  }
  printItems(cli, kind, columns, items);
}
