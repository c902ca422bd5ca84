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
    .description("what alerts want of a service: `berth get demands` lists it")
    .command("release")
    .summary("let go of what an alert holds")
    .description(
      "Lets go of what an alert holds, for alerts whose end will never be told. The same run of the alert does not raise it again.",
    )
    .argument("<service>")
    .argument("<demand>", "its id: `berth get demands SERVICE -o wide`")
    .action(async (service: string, id: string) => {
      if (!/^dmd_[0-9a-z]+$/.test(id))
        throw usageError(
          `"${id}" is not a demand's id, such as dmd_01jd…`,
          "`berth get demands -o wide` shows them.",
        );
      const api = await cli.api();
      const demand = await api.request<Demand>("DELETE", `${servicePath(service)}/demands/${id}`);
      printItem(cli, demandColumns, { ...demand, service });
    });
}
