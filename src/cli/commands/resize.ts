import type { Command } from "commander";
import type { Service, ServiceChange } from "../../contracts/api/services.ts";
import type { Cli } from "../cli-context.ts";
import { CliError, usageError } from "../cli-error.ts";
import { exitCodes } from "../exit-codes.ts";
import { servicePath } from "../api/lookup.ts";
import { plainSentence } from "../output/plain-text.ts";
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
    .summary("resize the sets of a service without a restart")
    .description(
      "Resizes all sets of a service while they run. Each amount is the new total of one set. Volumes only grow.",
    )
    .argument("<service>")
    .option("--cpu <cores>", "CPU cores of each set, such as 2 or 0.5")
    .option("--memory <size>", "memory of each set, such as 512Mi or 8Gi")
    .option("--volume <size>", "volume size of each set, such as 20Gi")
    .option("--move", "move sets whose host lacks capacity for the new size")
    .option("--wait", "wait until all sets have the new size, or their previous size again")
    .option("--timeout <time>", "maximum wait", DEFAULT_WAIT)
    .action(async (name: string, options: ResizeOptions) => {
      const { cpu, memory, volume } = options;
      if (cpu === undefined && memory === undefined && volume === undefined)
        throw usageError("No new size. Set at least one of --cpu, --memory and --volume.");
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

/** Throws if sets returned to their previous size. Their service has settled as well. */
function assertNotRefused({ name, reason }: Service): void {
  if (reason?.code !== "resize-refused") return;
  throw new CliError(`Not all sets of ${name} have the new size: ${plainSentence(reason.text)}`, {
    exitCode: exitCodes.failed,
    hints: [`\`berth get sets --service ${name}\` shows which sets.`],
  });
}

function parseCores(text: string): number {
  const cores = Number(text);
  if (Number.isFinite(cores) && cores > 0) return cores;
  throw usageError(`--cpu ${text} is not a number of cores, such as 2 or 0.5.`);
}
