import { type Command, Option } from "commander";
import type { Host } from "../../contracts/api/hosts.ts";
import type { BerthSet } from "../../contracts/api/sets.ts";
import { formatAge, formatBytes, formatCores } from "../output/format-amounts.ts";
import type { Cli } from "../cli-context.ts";
import { usageError } from "../cli-error.ts";
import { getHost } from "../api/lookup.ts";
import { listPages } from "../api/list-pages.ts";
import { printItems } from "../output/print-items.ts";
import { type Column, rootfsText } from "../output/columns.ts";
import type { Tone } from "../output/terminal.ts";

/** Items that the command reads before it sorts them. It shows none of the others. */
const READ_MAX = 20_000;
const SHOWN_DEFAULT = 20;

interface TopOptions {
  limit: string;
  service?: string;
  host?: string;
}

export function addTopCommand(program: Command, cli: Cli): void {
  const command = program
    .command("top")
    .summary("show hosts or sets by their usage of resources")
    .description(
      "Shows the last reported usage of hosts or sets. Those nearest to their limits come first.",
    );
  withLimit(command.command("hosts").description("show hosts by their fullest resource")).action(
    async (options: TopOptions) => {
      const { items } = await listPages<Host>(await cli.api(), "/v1/hosts", READ_MAX);
      printTop(cli, "hosts", hostTopColumns, items, fullestShare, options);
    },
  );
  withLimit(command.command("sets").description("show sets by their share of memory in use"))
    .option("--service <name>", "only sets of this service")
    .addOption(new Option("--host <host>", "only sets on this host"))
    .action(async (options: TopOptions) => {
      const api = await cli.api();
      const host = options.host === undefined ? undefined : (await getHost(api, options.host)).id;
      const query = { service: options.service, host };
      const { items } = await listPages<BerthSet>(api, "/v1/sets", READ_MAX, query);
      printTop(cli, "sets", setTopColumns, items, memoryShare, options);
    });
}

function withLimit(command: Command): Command {
  return command.option("--limit <count>", "maximum number of rows", String(SHOWN_DEFAULT));
}

/** Sorts items by their share, then by id. Items without reported usage come last. */
function printTop<T extends { id: string }>(
  cli: Cli,
  kind: string,
  columns: readonly Column<T>[],
  items: readonly T[],
  shareOf: (item: T) => number | undefined,
  options: TopOptions,
): void {
  const limit = Number(options.limit);
  if (!Number.isInteger(limit) || limit < 1 || limit > READ_MAX)
    throw usageError(`--limit ${options.limit} is not a number from 1 to ${READ_MAX}.`);
  const sorted = items.toSorted(
    (a, b) => (shareOf(b) ?? -1) - (shareOf(a) ?? -1) || (a.id < b.id ? -1 : 1),
  );
  printItems(cli, kind, columns, sorted.slice(0, limit));
}

type Amount = keyof Host["allocatable"];

function hostShare({ reported, allocatable }: Host, amount: Amount): number | undefined {
  if (!reported || allocatable[amount] === 0) return undefined;
  return reported.used[amount] / allocatable[amount];
}

function fullestShare(host: Host): number | undefined {
  const amounts = ["cpuMillis", "memoryBytes", "volumeBytes", "rootfsBytes"] as const;
  const shares = amounts.flatMap((amount) => hostShare(host, amount) ?? []);
  return shares.length === 0 ? undefined : Math.max(...shares);
}

function memoryShare({ memoryUsedBytes, memoryBytes }: BerthSet): number | undefined {
  return memoryUsedBytes === null ? undefined : memoryUsedBytes / memoryBytes;
}

function percent(share: number | undefined): string {
  return share === undefined ? "?" : `${Math.round(share * 100)}%`;
}

function shareTone(share: number | undefined): Tone | undefined {
  if (share === undefined || share < 0.8) return undefined;
  return share < 0.95 ? "warn" : "bad";
}

function useColumn(head: string, amount: Amount, format: (value: number) => string): Column<Host> {
  return {
    head,
    cell: (host) => {
      const share = hostShare(host, amount);
      if (share === undefined) return "";
      const used = host.reported?.used[amount] ?? 0;
      return `${format(used)}/${format(host.allocatable[amount])} ${percent(share)}`;
    },
    tone: (host) => shareTone(hostShare(host, amount)),
  };
}

const hostTopColumns: readonly Column<Host>[] = [
  { head: "NAME", cell: (host) => host.name },
  { head: "STATE", cell: (host) => host.state },
  useColumn("CPU", "cpuMillis", formatCores),
  useColumn("MEMORY", "memoryBytes", formatBytes),
  useColumn("DISK", "rootfsBytes", formatBytes),
  useColumn("VOLUMES", "volumeBytes", formatBytes),
  { head: "SETS", cell: (host) => String(host.sets) },
  {
    head: "REPORTED",
    cell: ({ reported }, nowMs) => (reported ? `${formatAge(reported.at, nowMs)} ago` : "never"),
  },
];

const setTopColumns: readonly Column<BerthSet>[] = [
  { head: "ID", cell: (set) => set.id },
  { head: "SERVICE", cell: (set) => set.service },
  { head: "HOST", cell: (set) => set.host?.name ?? "" },
  { head: "STATE", cell: (set) => (set.ready ? "ready" : set.state) },
  {
    head: "MEMORY",
    cell: (set) => {
      const used = set.memoryUsedBytes === null ? "?" : formatBytes(set.memoryUsedBytes);
      return `${used}/${formatBytes(set.memoryBytes)} ${percent(memoryShare(set))}`;
    },
    tone: (set) => shareTone(memoryShare(set)),
  },
  { head: "CPU LIMIT", cell: (set) => formatCores(set.cpuMillis) },
  { head: "ROOTFS", cell: rootfsText },
];
