import type { Command } from "commander";
import type { Cli } from "../cli-context.ts";
import { printDocument } from "../output/print-items.ts";
import {
  DEFAULT_WAIT,
  parseGoal,
  parseTimeout,
  serviceGoals,
  setGoals,
  waitForService,
  waitForSet,
} from "../api/wait-for.ts";

export function addWaitCommand(program: Command, cli: Cli): void {
  const command = program
    .command("wait")
    .summary("wait until a service or a set is where it should be")
    .description("Waits and shows how it goes. Ends with exit code 6 when the time is over.");
  command
    .command("service")
    .argument("<service>")
    .option("--for <goal>", serviceGoals.join(" or "), "settled")
    .option("--timeout <time>", "how long at most", DEFAULT_WAIT)
    .action(async (name: string, options: { for: string; timeout: string }) => {
      const goal = parseGoal(serviceGoals, options.for);
      const timeoutSeconds = parseTimeout(options.timeout);
      const service = await waitForService(cli, await cli.api(), name, goal, timeoutSeconds);
      if (cli.isForPrograms) printDocument(cli, service);
    });
  command
    .command("set")
    .argument("<set>")
    .option("--for <goal>", setGoals.join(", "), "running")
    .option("--timeout <time>", "how long at most", DEFAULT_WAIT)
    .action(async (id: string, options: { for: string; timeout: string }) => {
      const goal = parseGoal(setGoals, options.for);
      const timeoutSeconds = parseTimeout(options.timeout);
      const set = await waitForSet(cli, await cli.api(), id, goal, timeoutSeconds);
      if (cli.isForPrograms) printDocument(cli, set);
    });
}
