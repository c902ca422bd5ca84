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

/** Words of the command line for the dimensions of a pool's percentages. */
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
    .description("set how far the hosts of a pool are filled")
    .command("set")
    .description("change percentages of a pool, or make the pool; what is not named stays")
    .argument("<pool>")
    .option(
      "--overcommit <part=percent>",
      "booked amounts may reach this share of a host (repeatable), such as cpu=200",
      addTo,
      [],
    )
    .option(
      "--high-water <part=percent>",
      "measured use may reach this share of a host (repeatable), such as memory=90",
      addTo,
      [],
    )
    .action(async (name: string, options: { overcommit: string[]; highWater: string[] }) => {
      if (!isName(name)) throw usageError(`"${name}" cannot be a pool's name.`);
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

function parsePercents(pairs: readonly string[]): Partial<Percents> {
  return Object.fromEntries(
    pairs.map((pair) => {
      const [part = "", percent = ""] = pair.split("=");
      const dimension = dimensions[part as keyof typeof dimensions] as keyof Percents | undefined;
      if (!dimension || !/^\d{1,4}$/.test(percent))
        throw usageError(
          `"${pair}" is no percentage: expected ${Object.keys(dimensions).join(", ")}, such as cpu=200.`,
        );
      return [dimension, Number(percent)];
    }),
  );
}
