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
    .summary("wait until a service or a set reaches a state")
    .description("Waits and shows the progress. Exits with code 6 after the timeout.");
  command
    .command("service")
    .description("wait until a service is settled or deleted")
    .argument("<service>")
    .option("--for <goal>", `state to wait for: ${serviceGoals.join(" or ")}`, "settled")
    .option("--timeout <time>", "maximum wait", DEFAULT_WAIT)
    .action(async (name: string, options: { for: string; timeout: string }) => {
      const goal = parseGoal(serviceGoals, options.for);
      const timeoutSeconds = parseTimeout(options.timeout);
      const service = await waitForService(cli, await cli.api(), name, goal, timeoutSeconds);
      if (cli.isForPrograms) printDocument(cli, service);
    });
  command
    .command("set")
    .description("wait until a set is running, ready, stopped or deleted")
    .argument("<set>")
    .option("--for <goal>", `state to wait for: ${setGoals.join(", ")}`, "running")
    .option("--timeout <time>", "maximum wait", DEFAULT_WAIT)
    .action(async (id: string, options: { for: string; timeout: string }) => {
      const goal = parseGoal(setGoals, options.for);
      const timeoutSeconds = parseTimeout(options.timeout);
      const set = await waitForSet(cli, await cli.api(), id, goal, timeoutSeconds);
      if (cli.isForPrograms) printDocument(cli, set);
    });
}
