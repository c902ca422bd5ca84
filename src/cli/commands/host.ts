import type { Command } from "commander";
import type { DrainHost, Host } from "../../contracts/api/hosts.ts";
import type { ApiClient } from "../api/api-client.ts";
import type { Cli } from "../cli-context.ts";
import { CliError, usageError } from "../cli-error.ts";
import { exitCodes } from "../exit-codes.ts";
import { confirm } from "../output/confirm.ts";
import { getHost } from "../api/lookup.ts";
import { printDocument, printItem } from "../output/print-items.ts";
import { hostColumns } from "../output/columns.ts";
import { DEFAULT_WAIT, parseTimeout } from "../api/wait-for.ts";

const POLL_MS = 1_000;
const CHANGES_RACED_MAX = 5;

export function addHostCommands(program: Command, cli: Cli): void {
  for (const [verb, summary] of [
    ["cordon", "stop the placement of new sets on a host"],
    ["uncordon", "permit new sets on a host again"],
    ["accept-machine", "bind a lost host to the machine whose agent syncs next"],
  ] as const) {
    program
      .command(verb)
      .description(summary)
      .argument("<host>", "name or id")
      .action(async (nameOrId: string) => {
        const api = await cli.api();
        printItem(cli, hostColumns, await changeHost(api, nameOrId, verb));
      });
  }
  addRotateCredential(program, cli);
  addAdoptVolumes(program, cli);
  program
    .command("label")
    .description("add, change or remove labels of a host")
    .argument("<host>", "name or id")
    .argument("<labels...>", "key=value to set, key- to remove")
    .action(async (nameOrId: string, changes: string[]) => {
      const parsed = changes.map(parseChange);
      const host = await patchHost(await cli.api(), nameOrId, (before) => {
        const labels = { ...before.labels };
        for (const { key, value } of parsed) {
          if (value === undefined) delete labels[key];
          else labels[key] = value;
        }
        return { labels };
      });
      printItem(cli, hostColumns, host);
    });
  program
    .command("taint")
    .description(
      "set or remove taints of a host; a tainted host takes only sets that tolerate the taint",
    )
    .argument("<host>", "name or id")
    .argument("<taints...>", "key=value or key= to set, key- to remove")
    .action(async (nameOrId: string, changes: string[]) => {
      const parsed = changes.map(parseChange);
      const host = await patchHost(await cli.api(), nameOrId, (before) => {
        const taints = new Map(before.taints.map(({ key, value }) => [key, value]));
        for (const { key, value } of parsed) {
          if (value === undefined) taints.delete(key);
          else taints.set(key, value);
        }
        return { taints: [...taints].map(([key, value]) => ({ key, value })) };
      });
      printItem(cli, hostColumns, host);
    });
  program
    .command("gateway")
    .description("make a host a gateway of a group, or no gateway")
    .argument("<host>", "name or id")
    .argument("[group]", "the group that services name in `gatewayPorts`")
    .option("--none", "the host is not a gateway")
    .action(async (nameOrId: string, group: string | undefined, { none }: { none?: boolean }) => {
      if ((group === undefined) !== (none === true))
        throw usageError("Expected a group or --none.", "Try `berth gateway g1 edge`.");
      const gatewayGroup = group ?? null;
      const host = await patchHost(await cli.api(), nameOrId, () => ({ gatewayGroup }));
      printItem(cli, hostColumns, host);
    });
  addDrain(program, cli);
}

function addDrain(program: Command, cli: Cli): void {
  program
    .command("drain")
    .description("cordon a host and move its sets to other hosts")
    .argument("<host>", "name or id")
    .option("--deadline <time>", "deadline of the drain, such as 10m")
    .option("--force", "after the deadline, ignore disruption budgets and capacity")
    .option("--discard-volumes", "also move sets with a volume; they start with an empty volume")
    .option("--wait", "wait until the host has no sets")
    .option("--timeout <time>", "maximum wait", DEFAULT_WAIT)
    .action(async (nameOrId: string, options: DrainOptions) => {
      const timeoutSeconds = parseTimeout(options.timeout);
      const api = await cli.api();
      const host = await changeHost(api, nameOrId, "drain", {
        ...(options.deadline === undefined
          ? {}
          : { deadlineSeconds: parseTimeout(options.deadline) }),
        ...(options.force === true ? { force: true } : {}),
        ...(options.discardVolumes === true ? { discardVolumes: true } : {}),
      });
      const after =
        options.wait === true ? await waitDrained(cli, api, host, timeoutSeconds) : host;
      printItem(cli, hostColumns, after);
    });
}

function addRotateCredential(program: Command, cli: Cli): void {
  program
    .command("rotate-credential")
    .description("request a new credential for the agent of a host")
    .argument("<host>", "name or id")
    .action(async (nameOrId: string) => {
      const host = await changeHost(await cli.api(), nameOrId, "rotate-credential");
      if (cli.isForPrograms) printDocument(cli, host);
      else {
        cli.terminal.out(
          "Rotation requested. `berth get hosts -o wide` shows `rotating` until the agent uses the new credential.",
        );
      }
    });
}

function addAdoptVolumes(program: Command, cli: Cli): void {
  program
    .command("adopt-volumes")
    .description(
      "take the volumes of a deleted host, which are on the machine of a host, to its trash",
    )
    .argument("<host>", "name or id")
    .argument("<deleted-host>", "id of the deleted host")
    .option("--yes", "adopt without a confirmation")
    .action(async (nameOrId: string, deletedHostId: string, options: { yes?: boolean }) => {
      const api = await cli.api();
      const host = await getHost(api, nameOrId);
      if (options.yes !== true) {
        const question = `Adopt the volumes of the deleted host ${deletedHostId} on host ${host.name}? They go to its trash, where users can restore them. Containers of the deleted host on that machine are removed.`;
        await confirm(cli, question, "Berth adopted nothing.");
      }
      const body = { deletedHostId, confirm: deletedHostId };
      const after = await api.request<Host>("POST", `/v1/hosts/${host.id}/adopt-volumes`, { body });
      printItem(cli, hostColumns, after);
    });
}

/**
 * Reads a host and changes it. Each placement changes the host, so a conflict repeats both, at most
 * five times.
 */
async function patchHost(
  api: ApiClient,
  nameOrId: string,
  bodyFor: (host: Host) => unknown,
): Promise<Host> {
  for (let attempt = 1; ; attempt++) {
    const host = await getHost(api, nameOrId);
    try {
      return await api.request<Host>("PATCH", `/v1/hosts/${host.id}`, {
        body: bodyFor(host),
        generation: host.generation,
      });
    } catch (error) {
      const isRaced = error instanceof CliError && error.code === "generation-mismatch";
      if (!isRaced || attempt === CHANGES_RACED_MAX) throw error;
    }
  }
}

/** Parses "disk=nvme", which sets a key, or "disk-", which removes it. */
function parseChange(text: string): { key: string; value: string | undefined } {
  const at = text.indexOf("=");
  if (at > 0) return { key: text.slice(0, at), value: text.slice(at + 1) };
  if (at < 0 && text.length > 1 && text.endsWith("-"))
    return { key: text.slice(0, -1), value: undefined };
  throw usageError(
    `"${text}" is neither key=value nor key-.`,
    "key=value sets a key. key- removes it.",
  );
}

interface DrainOptions {
  deadline?: string;
  force?: boolean;
  discardVolumes?: boolean;
  wait?: boolean;
  timeout: string;
}

async function changeHost(
  api: ApiClient,
  nameOrId: string,
  verb: string,
  body?: DrainHost,
): Promise<Host> {
  const host = await getHost(api, nameOrId);
  const path = `/v1/hosts/${host.id}/${verb}`;
  return await api.request<Host>("POST", path, body === undefined ? {} : { body });
}

async function waitDrained(
  cli: Cli,
  api: ApiClient,
  host: Host,
  timeoutSeconds: number,
): Promise<Host> {
  const deadline = cli.now + timeoutSeconds * 1000;
  let latest = host;
  while (latest.sets > 0) {
    const line = leftText(latest);
    if (cli.now >= deadline) {
      cli.terminal.endLive();
      throw new CliError(
        `Host ${host.name} still has ${countSets(latest)} after ${timeoutSeconds} s.`,
        {
          exitCode: exitCodes.timedOut,
          hints: [`The drain continues. \`berth get sets --host ${host.name}\` lists the sets.`],
        },
      );
    }
    if (cli.terminal.isStderrTty) cli.terminal.live(line);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    const before = latest.sets;
    latest = await api.request<Host>("GET", `/v1/hosts/${host.id}`);
    if (!cli.terminal.isStderrTty && latest.sets !== before) cli.terminal.note(leftText(latest));
  }
  cli.terminal.endLive();
  return latest;
}

function leftText(host: Host): string {
  return `${host.name}  ${countSets(host)} left`;
}

function countSets({ sets }: Host): string {
  return `${sets} ${sets === 1 ? "set" : "sets"}`;
}
