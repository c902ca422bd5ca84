import type { Command } from "commander";
import type { Service, ServiceChange } from "../../contracts/api/services.ts";
import type { Cli } from "../cli-context.ts";
import { CliError, usageError } from "../cli-error.ts";
import { exitCodes } from "../exit-codes.ts";
import { servicePath } from "../api/lookup.ts";
import { plainText } from "../output/plain-text.ts";
import { printDocument } from "../output/print-items.ts";
import { DEFAULT_WAIT, parseTimeout, waitForService } from "../api/wait-for.ts";
import { printChange } from "./scale.ts";

interface ResizeOptions {
  cpu?: string;
  memory?: string;
  volume?: string;
  move?: boolean;
  wait?: boolean;
  timeout: string;
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
    .option("--wait", "wait until all sets have it, or have gone back to their former size")
    .option("--timeout <time>", "how long to wait at most", DEFAULT_WAIT)
    .action(async (name: string, options: ResizeOptions) => {
      const { cpu, memory, volume } = options;
      if (cpu === undefined && memory === undefined && volume === undefined)
        throw usageError("Nothing to change: name at least one of --cpu, --memory and --volume.");
      const body = {
        ...(cpu === undefined ? {} : { cpu: parseCores(cpu) }),
        ...(memory === undefined ? {} : { memory }),
        ...(volume === undefined ? {} : { volume }),
        ifNoCapacity: options.move === true ? "move" : "refuse",
      };
      const timeoutSeconds = parseTimeout(options.timeout);
      const api = await cli.api();
      const path = `${servicePath(name)}/resize`;
      const change = await api.request<ServiceChange>("POST", path, { body });
      if (!cli.isForPrograms) printChange(cli, "resized", change);
      if (options.wait === true) {
        const settled = await waitForService(cli, api, name, "settled", timeoutSeconds);
        if (settled) change.service = settled;
      }
      if (cli.isForPrograms) printDocument(cli, change);
      if (options.wait === true) assertNotRefused(change.service);
    });
}

/** A service has settled, too, when sets of it went back to the size that they had. */
function assertNotRefused({ name, reason }: Service): void {
  if (reason?.code !== "resize-refused") return;
  throw new CliError(`Not all sets of ${name} have the new size: ${plainText(reason.text)}.`, {
    exitCode: exitCodes.failed,
    hints: [`\`berth get sets --service ${name}\` says which.`],
  });
}

function parseCores(text: string): number {
  const cores = Number(text);
  if (Number.isFinite(cores) && cores > 0) return cores;
  throw usageError(`--cpu ${text}: expected a number of cores, such as 2 or 0.5.`);
}
