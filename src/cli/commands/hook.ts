import type { Command } from "commander";
import type { z } from "zod";
import type { Hook } from "../../contracts/api/autoscaling.ts";
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

const HOOKS_MAX = 500;

interface RuleOptions {
  name?: string;
  match: string[];
  replicas?: string;
  step?: string;
  factor?: string;
  hold?: string;
  file?: string;
}

export function addHookCommand(program: Command, cli: Cli): void {
  const command = program
    .command("hook")
    .description("let the alerts of a monitoring system scale a service");
  const create = command
    .command("create")
    .summary("make a hook; its token is shown this once")
    .description(
      "Makes a hook with one rule from the options, or with all that a file says. Its token is shown this once.",
    )
    .argument("<service>")
    .option("--name <name>", "name of the hook", "alerts");
  withRules(create).action(async (service: string, options: RuleOptions) => {
    await createHook(cli, service, options);
  });
  const set = command
    .command("set")
    .summary("change what a hook makes of alerts; its token stays")
    .description(
      "Replaces a hook's rules by one from the options, or by those of a file, or changes how long it holds. Its address and token stay.",
    )
    .argument("<service>")
    .argument("<hook>", "name or id");
  withRules(set).action(async (service: string, hook: string, options: RuleOptions) => {
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
    .command("rm")
    .description("remove a hook; the demands of its alerts are released")
    .argument("<service>")
    .argument("<hook>", "name or id")
    .action(async (service: string, hook: string) => await removeHook(cli, service, hook));
}

function withRules(command: Command): Command {
  return command
    .option("--match <label=value>", "only alerts with this label (repeatable)", addTo, [])
    .option("--replicas <count>", "while an alert fires: at least so many sets")
    .option("--step <count>", "while an alert fires: so many more than when it began")
    .option("--factor <number>", "while an alert fires: so many times as many as when it began")
    .option("--hold <time>", "keep the sets so long after the alert ended (5m by default)")
    .option("-f, --file <file>", "the hook as YAML or JSON, for several rules; - is stdin");
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
  terminal.out(`hook ${hook.name} of ${hook.service} created`);
  terminal.out(`  token (shown this once)  ${token}`);
  terminal.out(`  Alertmanager  ${base}${hook.paths.alertmanager}`);
  terminal.out(`  anything else ${base}${hook.paths.generic}`);
  terminal.out();
  terminal.out("In alertmanager.yml:");
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
  throw new CliError("This is not a hook.", {
    exitCode: exitCodes.usage,
    errors: parsed.error.issues.map((issue) => ({
      pointer: `/${issue.path.map(String).join("/")}`,
      detail: issue.message,
    })),
    hints: options.file === undefined ? ["Name one of --replicas, --step and --factor."] : [],
  });
}

/** Without a word about alerts there is no rule: then only the rest is said. */
function hookOfOptions(options: RuleOptions): unknown {
  const numberOf = (text: string | undefined): number | undefined =>
    text === undefined ? undefined : Number(text);
  const want = {
    replicas: numberOf(options.replicas),
    step: numberOf(options.step),
    factor: numberOf(options.factor),
  };
  const holdSeconds = options.hold === undefined ? undefined : parseSeconds(options.hold);
  if (options.hold !== undefined && holdSeconds === undefined)
    throw usageError(`--hold ${options.hold}: expected a time such as 30s or 5m.`);
  const match = Object.fromEntries(
    options.match.map((pair) => {
      const at = pair.indexOf("=");
      if (at < 1) throw usageError(`--match ${pair}: expected label=value.`);
      return [pair.slice(0, at), pair.slice(at + 1)];
    }),
  );
  const saysRule =
    options.match.length > 0 || Object.values(want).some((part) => part !== undefined);
  return {
    ...(options.name === undefined ? {} : { name: options.name }),
    ...(saysRule || options.name !== undefined ? { rules: [{ match, want }] } : {}),
    ...(holdSeconds === undefined ? {} : { stabilizationSeconds: holdSeconds }),
  };
}

async function findHook(api: ApiClient, service: string, nameOrId: string): Promise<Hook> {
  const { items } = await listPages<Hook>(api, hooksPath(service), HOOKS_MAX);
  const hook = items.find((item) => item.name === nameOrId || item.id === nameOrId);
  if (hook) return hook;
  throw new CliError(`${service} has no hook "${nameOrId}".`, {
    exitCode: exitCodes.notFound,
    hints: [`\`berth hook ls ${service}\` lists them.`],
  });
}

async function removeHook(cli: Cli, service: string, nameOrId: string): Promise<void> {
  const api = await cli.api();
  const hook = await findHook(api, service, nameOrId);
  await api.request("DELETE", `${hooksPath(service)}/${hook.id}`);
  if (cli.isForPrograms) printDocument(cli, { deleted: hook.id });
  else cli.terminal.out(`hook ${hook.name} of ${service} removed`);
}
