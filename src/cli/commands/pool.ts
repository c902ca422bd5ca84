import type { Command } from "commander";
import type { HostPool } from "../../contracts/api/hosts.ts";
import { isName } from "../../contracts/common/limits.ts";
import type { Cli } from "../cli-context.ts";
import { usageError } from "../cli-error.ts";
import { listPages } from "../api/list-pages.ts";
import { printItem } from "../output/print-items.ts";
import { poolColumns } from "../output/columns.ts";
import { addTo } from "../repeatable.ts";

const POOLS_MAX = 1_000;

/** The names of the dimensions on the command line. */
const dimensions = {
  cpu: "cpuMillis",
  memory: "memoryBytes",
  volume: "volumeBytes",
  rootfs: "rootfsBytes",
} as const;
type Percents = HostPool["overcommitPercent"];

export function addPoolCommand(program: Command, cli: Cli): void {
  program
    .command("pool")
    .description("change the overcommit and the high-water marks of a host pool")
    .command("update")
    .alias("set")
    .description("change percentages of a pool, or create the pool; other percentages stay")
    .argument("<pool>")
    .option(
      "--overcommit <part=percent>",
      "limit of booked amounts in percent of a host, such as cpu=200 (repeatable)",
      addTo,
    )
    .option(
      "--high-water <part=percent>",
      "limit of measured usage in percent of a host, such as memory=90 (repeatable)",
      addTo,
    )
    .action(async (name: string, options: { overcommit?: string[]; highWater?: string[] }) => {
      if (!isName(name))
        throw usageError(
          `"${name}" is not a valid pool name. Use lower-case letters, digits and hyphens.`,
        );
      const overcommit = parsePercents(options.overcommit);
      const highWater = parsePercents(options.highWater);
      const api = await cli.api();
      const { items } = await listPages<HostPool>(api, "/v1/host-pools", POOLS_MAX);
      const present = items.find((pool) => pool.name === name);
      const pool = await api.request<HostPool>("PUT", `/v1/host-pools/${name}`, {
        ...(present ? { generation: present.version } : {}),
        body: {
          overcommitPercent: { ...present?.overcommitPercent, ...overcommit },
          highWaterPercent: { ...present?.highWaterPercent, ...highWater },
        },
      });
      printItem(cli, poolColumns, pool);
    });
}

function parsePercents(pairs: readonly string[] = []): Partial<Percents> {
  return Object.fromEntries(
    pairs.map((pair) => {
      const [part = "", percent = ""] = pair.split("=");
      const dimension = dimensions[part as keyof typeof dimensions] as keyof Percents | undefined;
      if (!dimension || !/^\d{1,4}$/.test(percent))
        throw usageError(
          `"${pair}" is not a percentage, such as cpu=200. The parts are ${Object.keys(dimensions).join(", ")}.`,
        );
      return [dimension, Number(percent)];
    }),
  );
}
