import type { Command } from "commander";
import type { ServiceChange } from "../../contracts/api/services.ts";
import { REPLICAS_MAX } from "../../contracts/common/limits.ts";
import type { Cli } from "../cli-context.ts";
import { usageError } from "../cli-error.ts";
import { servicePath } from "../api/lookup.ts";
import { plainText } from "../output/plain-text.ts";
import { printDocument } from "../output/print-items.ts";
import { DEFAULT_WAIT, parseTimeout, waitForService } from "../api/wait-for.ts";

export function addScaleCommand(program: Command, cli: Cli): void {
  program
    .command("scale")
    .summary("change the number of sets of a service")
    .description("Changes the number of sets of a service. A second run changes nothing.")
    .argument("<service>")
    .argument("<replicas>", "number of sets")
    .option("--wait", "wait until the service has settled")
    .option("--timeout <time>", "maximum wait", DEFAULT_WAIT)
    .action(
      async (name: string, replicas: string, options: { wait?: boolean; timeout: string }) => {
        const timeoutSeconds = parseTimeout(options.timeout);
        const api = await cli.api();
        const change = await api.request<ServiceChange>("POST", `${servicePath(name)}/scale`, {
          body: { replicas: parseReplicas(replicas) },
        });
        if (!cli.isForPrograms) printChange(cli, "scaled", change);
        if (options.wait === true) {
          const settled = await waitForService(cli, api, name, "settled", timeoutSeconds);
          if (settled) change.service = settled;
        }
        if (cli.isForPrograms) printDocument(cli, change);
      },
    );
}

export function parseReplicas(text: string): number {
  const replicas = Number(text);
  if (!/^\d+$/.test(text) || replicas > REPLICAS_MAX)
    throw usageError(
      `"${text}" is not a number of sets from 0 to ${REPLICAS_MAX}.`,
      /^[+-]\d+$/.test(text) ? "Name the total number of sets, not a difference." : "",
    );
  return replicas;
}

export function printChange(cli: Cli, verb: string, { service, effects }: ServiceChange): void {
  cli.terminal.out(`service/${service.name} ${cli.terminal.paintOut("good", verb)}`);
  for (const effect of effects) cli.terminal.out(`  ${plainText(effect)}`);
}
