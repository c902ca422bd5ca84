import type { Command } from "commander";
import type { ServiceChange } from "../../contracts/services.ts";
import type { Cli } from "../cli.ts";
import { usageError } from "../cli-error.ts";
import { servicePath } from "../find-things.ts";
import { printDocument } from "../print-items.ts";
import { printChange } from "./scale.ts";

interface ResizeOptions {
  cpu?: string;
  memory?: string;
  volume?: string;
  move?: boolean;
}

export function addResizeCommand(program: Command, cli: Cli): void {
  program
    .command("resize")
    .summary("give the sets of a service more or less, without a restart")
    .description(
      "Changes CPU, memory and volume of all sets of a service while they run. Amounts are those of one set, and absolute; volumes grow only.",
    )
    .argument("<service>")
    .option("--cpu <cores>", "such as 2 or 0.5")
    .option("--memory <size>", "such as 512Mi or 8Gi")
    .option("--volume <size>", "such as 20Gi")
    .option("--move", "replace sets elsewhere whose host has no room for the new size")
    .action(async (name: string, options: ResizeOptions) => {
      const { cpu, memory, volume } = options;
      if (cpu === undefined && memory === undefined && volume === undefined)
        throw usageError("Nothing to change: name at least one of --cpu, --memory and --volume.");
      const body = {
        ...(cpu === undefined ? {} : { cpu: parseCores(cpu) }),
        ...(memory === undefined ? {} : { memory }),
        ...(volume === undefined ? {} : { volume }),
        ifNoRoom: options.move === true ? "move" : "refuse",
      };
      const api = await cli.api();
      const path = `${servicePath(name)}/resize`;
      const change = await api.request<ServiceChange>("POST", path, { body });
      if (cli.isForPrograms) printDocument(cli, change);
      else printChange(cli, "resized", change);
    });
}

function parseCores(text: string): number {
  const cores = Number(text);
  if (Number.isFinite(cores) && cores > 0) return cores;
  throw usageError(`--cpu ${text}: expected a number of cores, such as 2 or 0.5.`);
}
