import type { Command } from "commander";
import type { Host } from "../../contracts/api/hosts.ts";
import type { ServiceChange } from "../../contracts/api/services.ts";
import type { BerthSet } from "../../contracts/api/sets.ts";
import type { Volume } from "../../contracts/api/volumes.ts";
import type { ApiClient } from "../api/api-client.ts";
import type { Cli } from "../cli-context.ts";
import { confirm } from "../output/confirm.ts";
import { getHost, registryPath, servicePath, setPath } from "../api/lookup.ts";
import { listPages } from "../api/list-pages.ts";
import { printDocument } from "../output/print-items.ts";
import { DEFAULT_WAIT, parseTimeout, waitForService, waitForSet } from "../api/wait-for.ts";
import { printChange } from "./scale.ts";

interface DeleteOptions {
  wait?: boolean;
  timeout: string;
}

export function addDeleteCommand(program: Command, cli: Cli): void {
  const command = program
    .command("delete")
    .summary("delete a service, a set, a host, a registry, or the unknown sets of a host")
    .description(
      "Deletes a service with its sets, one set, or a host that is cordoned and empty, or lost. `delete registry REGISTRY` deletes its credential. `berth network delete NETWORK` deletes a network, and `berth rule delete RULE` a rule. `delete unknown-sets HOST` deletes the sets of a host that a restored database does not know.",
    );
  withWait(command.command("service").description("delete a service with all its sets"))
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
      .description("delete a set; its service creates another unless you scale it down"),
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
    .description("delete a cordoned host without sets and volumes, or a lost host with both")
    .argument("<host>", "name or id")
    .option("--yes", "delete without a confirmation")
    .action(async (nameOrId: string, options: { yes?: boolean }) => {
      const api = await cli.api();
      const host = await getHost(api, nameOrId);
      const query = (await hasSomething(api, host)) ? { confirm: host.id } : undefined;
      if (query && options.yes !== true) {
        const question = `Delete host ${host.name}? Berth starts replacements for its ${host.sets} ${host.sets === 1 ? "set" : "sets"} on other hosts, with empty volumes. The data of its volumes is lost. Make sure that the machine is off: its containers run twice until its agent reaches Berth again.`;
        await confirm(cli, question, "Berth deleted nothing.");
      }
      await api.request("DELETE", `/v1/hosts/${host.id}`, { query });
      if (cli.isForPrograms) printDocument(cli, { deleted: host.id });
      else cli.terminal.out(`host/${host.name} deleted`);
    });
  addDeleteRegistry(command, cli);
  command
    .command("unknown-sets")
    .description("delete the sets of a host that the database does not know after a restore")
    .argument("<host>", "name or id")
    .option("--yes", "delete without a confirmation")
    .action(async (nameOrId: string, options: { yes?: boolean }) => {
      const api = await cli.api();
      const host = await getHost(api, nameOrId);
      const count = host.unknownSets.length;
      if (count > 0 && options.yes !== true) {
        const question = `Delete ${count} unknown ${count === 1 ? "set" : "sets"} of host ${host.name}? Their containers stop. Their volumes go to the trash of the host.`;
        await confirm(cli, question, "Berth deleted nothing.");
      }
      if (count > 0) await api.request<Host>("DELETE", `/v1/hosts/${host.id}/unknown-sets`);
      if (cli.isForPrograms) printDocument(cli, { deleted: host.unknownSets });
      else if (count === 0) cli.terminal.out(`host/${host.name} has no unknown sets`);
      else
        cli.terminal.out(`${count} unknown ${count === 1 ? "set is" : "sets are"} being deleted`);
    });
}

function addDeleteRegistry(command: Command, cli: Cli): void {
  command
    .command("registry")
    .description("delete the credential of a registry; hosts then pull anonymously")
    .argument("<registry>")
    .option("--yes", "no effect, because this command does not ask")
    .action(async (name: string) => {
      await (await cli.api()).request("DELETE", registryPath(name));
      if (cli.isForPrograms) printDocument(cli, { deleted: name });
      else cli.terminal.out(`registry/${name} deleted`);
    });
}

/** True if the deletion loses sets or volumes of a lost host. Other hosts must be empty first. */
async function hasSomething(api: ApiClient, host: Host): Promise<boolean> {
  if (host.state !== "lost") return false;
  if (host.sets > 0) return true;
  const { items } = await listPages<Volume>(api, "/v1/volumes", 1, { host: host.id });
  return items.length > 0;
}

/** Scripts pass --yes to every deletion, so commands without a confirmation accept it too. */
function withWait(command: Command): Command {
  return command
    .option("--yes", "no effect, because this command does not ask")
    .option("--wait", "wait until it is deleted")
    .option("--timeout <time>", "maximum wait", DEFAULT_WAIT);
}
