import type { Command } from "commander";
import type { ServiceChange } from "../../contracts/services.ts";
import type { BerthSet } from "../../contracts/sets.ts";
import type { Cli } from "../cli.ts";
import { getHost, servicePath, setPath } from "../find-things.ts";
import { printDocument } from "../print-items.ts";
import { DEFAULT_WAIT, parseTimeout, waitForService, waitForSet } from "../wait-for.ts";
import { printChange } from "./scale.ts";

interface DeleteOptions {
  wait?: boolean;
  timeout: string;
}

export function addDeleteCommand(program: Command, cli: Cli): void {
  const command = program
    .command("delete")
    .summary("delete a service, a set or a host")
    .description("Deletes a service with all its sets, one set, or a host that is lost or empty.");
  withWait(command.command("service").description("stop and remove all its sets"))
    .argument("<service>")
    .action(async (name: string, options: DeleteOptions) => {
      const timeoutSeconds = parseTimeout(options.timeout);
      const api = await cli.api();
      const change = await api.request<ServiceChange | undefined>("DELETE", servicePath(name));
      if (cli.isForPrograms) printDocument(cli, change ?? { deleted: name });
      else if (change) printChange(cli, "is being deleted", change);
      else cli.terminal.out(`service/${name} is being deleted`);
      if (options.wait === true) await waitForService(cli, api, name, "deleted", timeoutSeconds);
    });
  withWait(
    command
      .command("set")
      .description("stop and remove it; its service makes a new one unless it was scaled down"),
  )
    .argument("<set>")
    .action(async (id: string, options: DeleteOptions) => {
      const timeoutSeconds = parseTimeout(options.timeout);
      const api = await cli.api();
      const set = await api.request<BerthSet | undefined>("DELETE", setPath(id));
      if (cli.isForPrograms) printDocument(cli, set ?? { deleted: id });
      else cli.terminal.out(`${id} is being deleted`);
      if (options.wait === true) await waitForSet(cli, api, id, "deleted", timeoutSeconds);
    });
  command
    .command("host")
    .description("forget a host that is lost or has no sets")
    .argument("<host>", "name or id")
    .action(async (nameOrId: string) => {
      const api = await cli.api();
      const host = await getHost(api, nameOrId);
      await api.request("DELETE", `/v1/hosts/${host.id}`);
      if (cli.isForPrograms) printDocument(cli, { deleted: host.id });
      else cli.terminal.out(`host/${host.name} deleted`);
    });
}

function withWait(command: Command): Command {
  return command
    .option("--wait", "wait until it is gone")
    .option("--timeout <time>", "how long to wait at most", DEFAULT_WAIT);
}
