import type { Command } from "commander";
import type { Demand } from "../../contracts/api/autoscaling.ts";
import type { Cli } from "../cli-context.ts";
import { usageError } from "../cli-error.ts";
import { servicePath } from "../api/lookup.ts";
import { printItem } from "../output/print-items.ts";
import { demandColumns } from "../output/columns.ts";

export function addDemandCommand(program: Command, cli: Cli): void {
  program
    .command("demand")
    .description("release the demands of alerts; `berth get demands` lists them")
    .command("release")
    .summary("release the demand of an alert")
    .description(
      "Releases the demand of an alert that never resolves. The alert raises a new demand only after it has resolved and fired again.",
    )
    .argument("<service>")
    .argument("<demand>", "id; `berth get demands SERVICE -o wide` shows it")
    .action(async (service: string, id: string) => {
      if (!/^dmd_[0-9a-z]+$/.test(id))
        throw usageError(
          `"${id}" is not the id of a demand, such as dmd_01jd…`,
          "`berth get demands -o wide` shows the ids.",
        );
      const api = await cli.api();
      const demand = await api.request<Demand>("DELETE", `${servicePath(service)}/demands/${id}`);
      printItem(cli, demandColumns, { ...demand, service });
    });
}
