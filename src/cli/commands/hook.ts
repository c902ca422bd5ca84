import { type Command, Option } from "commander";
import type { z } from "zod";
import type { Hook, RotatedHook } from "../../contracts/api/autoscaling.ts";
import { parseSeconds } from "../output/format-amounts.ts";
import type { ApiClient } from "../api/api-client.ts";
import type { Cli } from "../cli-context.ts";
import { CliError, usageError } from "../cli-error.ts";
import { exitCodes } from "../exit-codes.ts";
import { servicePath } from "../api/lookup.ts";
import { listPages } from "../api/list-pages.ts";
import { printDocument, printItem, printItems } from "../output/print-items.ts";
import { hookColumns } from "../output/columns.ts";
import { addTo } from "../repeatable.ts";
import { overlapSeconds } from "./access.ts";

const HOOKS_MAX = 500;

interface RuleOptions {
  name?: string;
  match?: string[];
  replicas?: string;
  step?: string;
  factor?: string;
  stabilization?: string;
  hold?: string;
  file?: string;
}

export function addHookCommand(program: Command, cli: Cli): void {
  const command = program
    .command("hook")
    .description("scale a service by the alerts of a monitoring system");
  const create = command
    .command("create")
    .summary("create a hook and print its token once")
    .description(
      "Creates a hook with one rule from the options, or with all rules of a file. Prints its token once.",
    )
    .argument("<service>")
    .option("--name <name>", "name of the hook", "alerts");
  withRules(create).action(async (service: string, options: RuleOptions) => {
    await createHook(cli, service, options);
  });
  const update = command
    .command("update")
    .alias("set")
    .summary("change the rules of a hook")
    .description(
      "Replaces the rules of a hook with one from the options or with those of a file. --stabilization alone changes only the stabilization window. The URL and the token stay.",
    )
    .argument("<service>")
    .argument("<hook>", "name or id");
  withRules(update).action(async (service: string, hook: string, options: RuleOptions) => {
    await changeHook(cli, service, hook, options);
  });
  command
    .command("ls")
    .description("list the hooks of a service")
    .argument("<service>")
    .action(async (service: string) => {
      const { items } = await listPages<Hook>(await cli.api(), hooksPath(service), HOOKS_MAX);
      printItems(cli, "hooks", hookColumns, items);
    });
  command
    .command("rotate")
    .description("give a hook a new token and print it once")
    .argument("<service>")
    .argument("<hook>", "name or id")
    .option("--overlap <time>", "time for which the previous token stays valid", "1d")
    .action(async (service: string, hook: string, options: { overlap: string }) => {
      await rotateHook(cli, service, hook, options.overlap);
    });
  command
    .command("rm")
    .description(
      "delete a hook; its alerts resolve, and their sets stay for the stabilization window",
    )
    .argument("<service>")
    .argument("<hook>", "name or id")
    .action(async (service: string, hook: string) => await removeHook(cli, service, hook));
}

function withRules(command: Command): Command {
  return command
    .option("--match <label=value>", "only alerts with this label (repeatable)", addTo)
    .option("--replicas <count>", "minimum number of sets while an alert fires")
    .option(
      "--step <count>",
      "sets to add to the base: the replicas, or the largest --replicas of a firing alert",
    )
    .option("--factor <number>", "multiplies the base, rounded up")
    .option(
      "--stabilization <time>",
      "time for which a demand stays after its alert resolves (default: 5m)",
    )
    .addOption(new Option("--hold <time>").hideHelp()) // the previous name of --stabilization
    .option("-f, --file <file>", "hook as YAML or JSON, for several rules; - is stdin");
}

function hooksPath(service: string): string {
  return `${servicePath(service)}/hooks`;
}

async function createHook(cli: Cli, service: string, options: RuleOptions): Promise<void> {
  const { createHookBody } = await loadSchemas();
  const body = await readHook(cli, createHookBody, options);
  const api = await cli.api();
  const created = await api.request<{ hook: Hook; token: string }>("POST", hooksPath(service), {
    body,
  });
  if (cli.isForPrograms) {
    printDocument(cli, created);
    return;
  }
  const { hook, token } = created;
  const base = api.options.apiUrl.replace(/\/+$/, "");
  const { terminal } = cli;
  terminal.out(`hook/${hook.name} of service ${hook.service} created`);
  terminal.out(`  token (shown only once)  ${token}`);
  terminal.out(`  URL for Alertmanager     ${base}${hook.paths.alertmanager}`);
  terminal.out(`  URL for generic alerts   ${base}${hook.paths.generic}`);
  terminal.out();
  terminal.out("Add this to alertmanager.yml:");
  terminal.out();
  terminal.out("  receivers:");
  terminal.out(`    - name: berth-${hook.service}`);
  terminal.out("      webhook_configs:");
  terminal.out(`        - url: ${base}${hook.paths.alertmanager}`);
  terminal.out("          http_config:");
  terminal.out(`            authorization: { credentials: ${token} }`);
}

async function changeHook(
  cli: Cli,
  service: string,
  nameOrId: string,
  options: RuleOptions,
): Promise<void> {
  const { patchHookBody } = await loadSchemas();
  const body = await readHook(cli, patchHookBody, options);
  const api = await cli.api();
  const { id } = await findHook(api, service, nameOrId);
  const hook = await api.request<Hook>("PATCH", `${hooksPath(service)}/${id}`, { body });
  printItem(cli, hookColumns, hook);
}

/** Loads zod. Only these commands need it. */
async function loadSchemas() {
  return await import("../../contracts/api/autoscaling.ts");
}

async function readHook<T extends z.ZodType>(
  cli: Cli,
  schema: T,
  options: RuleOptions,
): Promise<z.output<T>> {
  const written: unknown =
    options.file === undefined
      ? hookOfOptions(options)
      : await (
          await import("../manifests/read-manifests.ts")
        ).readDocument(options.file, cli.options.stdin);
  const parsed = schema.safeParse(written);
  if (parsed.success) return parsed.data;
  throw new CliError("The hook is invalid.", {
    exitCode: exitCodes.usage,
    errors: parsed.error.issues.map((issue) => ({
      pointer: `/${issue.path.map(String).join("/")}`,
      detail: issue.message,
    })),
    hints: options.file === undefined ? ["Set one of --replicas, --step and --factor."] : [],
  });
}

/** Builds the body of a hook from the options. Without an option of a rule it has no rules. */
function hookOfOptions(options: RuleOptions): unknown {
  const numberOf = (text: string | undefined): number | undefined =>
    text === undefined ? undefined : Number(text);
  const want = {
    replicas: numberOf(options.replicas),
    step: numberOf(options.step),
    factor: numberOf(options.factor),
  };
  const window = options.stabilization ?? options.hold;
  const stabilizationSeconds = window === undefined ? undefined : parseSeconds(window);
  if (window !== undefined && stabilizationSeconds === undefined)
    throw usageError(`--stabilization ${window} is not a duration, such as 30s or 5m.`);
  const matches = options.match ?? [];
  const match = Object.fromEntries(
    matches.map((pair) => {
      const at = pair.indexOf("=");
      if (at < 1) throw usageError(`--match ${pair} is not label=value.`);
      return [pair.slice(0, at), pair.slice(at + 1)];
    }),
  );
  const hasRule = matches.length > 0 || Object.values(want).some((part) => part !== undefined);
  return {
    ...(options.name === undefined ? {} : { name: options.name }),
    ...(hasRule || options.name !== undefined ? { rules: [{ match, want }] } : {}),
    ...(stabilizationSeconds === undefined ? {} : { stabilizationSeconds }),
  };
}

async function findHook(api: ApiClient, service: string, nameOrId: string): Promise<Hook> {
  const { items } = await listPages<Hook>(api, hooksPath(service), HOOKS_MAX);
  const hook = items.find((item) => item.name === nameOrId || item.id === nameOrId);
  if (hook) return hook;
  throw new CliError(`Service ${service} has no hook "${nameOrId}".`, {
    exitCode: exitCodes.notFound,
    hints: [`\`berth hook ls ${service}\` lists its hooks.`],
  });
}

async function rotateHook(
  cli: Cli,
  service: string,
  nameOrId: string,
  overlap: string,
): Promise<void> {
  const body = { overlapSeconds: overlapSeconds(overlap) };
  const api = await cli.api();
  const { id } = await findHook(api, service, nameOrId);
  const path = `${hooksPath(service)}/${id}/rotate`;
  const rotated = await api.request<RotatedHook>("POST", path, { body });
  if (cli.isForPrograms) {
    printDocument(cli, rotated);
    return;
  }
  cli.terminal.note(
    `The previous token expires at ${rotated.formerExpiresAt}. Berth shows the new one only once:`,
  );
  cli.terminal.out(rotated.token);
}

async function removeHook(cli: Cli, service: string, nameOrId: string): Promise<void> {
  const api = await cli.api();
  const hook = await findHook(api, service, nameOrId);
  await api.request("DELETE", `${hooksPath(service)}/${hook.id}`);
  if (cli.isForPrograms) printDocument(cli, { deleted: hook.id });
  else cli.terminal.out(`hook/${hook.name} of service ${service} deleted`);
}
