import type { Command } from "commander";
import type { RuleExplanation } from "../../contracts/api/rule-explanation.ts";
import type { Rule } from "../../contracts/api/rules.ts";
import { RULES_PER_NETWORK_MAX, RULES_PER_REQUEST_MAX } from "../../contracts/common/limits.ts";
import { rulePath } from "../api/lookup.ts";
import type { Cli } from "../cli-context.ts";
import { usageError } from "../cli-error.ts";
import { ruleColumns } from "../output/network-columns.ts";
import { plainLines } from "../output/plain-text.ts";
import { printDocument, printItem, printItems } from "../output/print-items.ts";
import { addTo } from "../repeatable.ts";

interface RuleOptions {
  network?: string;
  direction?: string;
  action?: string;
  protocol?: string;
  port?: string[];
  service?: string;
  allServices?: true;
  peer?: string;
  priority?: string;
  endConnections?: true;
  file?: string;
}

const endConnectionsText = "also end open connections that the rules now deny";

export function addRuleCommand(program: Command, cli: Cli): void {
  const command = program
    .command("rule")
    .alias("rules")
    .description(
      "change firewall rules of networks, or explain which rules decide; `berth get rules` lists rules",
    );
  addCreate(command, cli);
  addUpdate(command, cli);
  command
    .command("delete")
    .alias("rm")
    .description("delete rules")
    .argument("<rule...>")
    .option("--end-connections", endConnectionsText)
    .option("--yes", "no effect, because this command does not ask")
    .action(async (names: string[], options: RuleOptions) => {
      const paths = names.map(rulePath);
      const api = await cli.api();
      const query = options.endConnections ? { endConnections: "true" } : undefined;
      for (const [place, path] of paths.entries()) {
        await api.request("DELETE", path, { query });
        if (!cli.isForPrograms) cli.terminal.out(`rule/${names[place] ?? ""} deleted`);
      }
      if (cli.isForPrograms) printDocument(cli, { deleted: names });
    });
  addExplain(command, cli);
}

function addCreate(command: Command, cli: Cli): void {
  withDefinition(
    "create",
    command
      .command("create")
      .summary("create a rule, or the rules of a file")
      .description(
        "Creates a rule in a network. With --file it creates the rules of a YAML or JSON file, 500 in a request. If a later request fails, the rules of the earlier ones exist.",
      )
      .argument("[rule]")
      .option("--network <network>", "network of the rule (without it: the network `default`)")
      .option("-f, --file <file>", "rules as YAML or JSON, or - for stdin"),
  ).action(async (name: string | undefined, options: RuleOptions) => {
    if (options.file !== undefined && describesRule(name, options))
      throw usageError("Give either --file or the options of one rule.");
    const rules =
      options.file === undefined ? [toRule(name, options)] : await readRules(cli, options.file);
    const api = await cli.api();
    const created: Rule[] = [];
    for (let first = 0; first < rules.length; first += RULES_PER_REQUEST_MAX) {
      const batch = rules.slice(first, first + RULES_PER_REQUEST_MAX);
      const body = { rules: batch, endConnections: options.endConnections === true };
      const answer = await api.request<{ rules: Rule[] }>("POST", "/v1/rules", { body });
      created.push(...answer.rules);
      if (rules.length > batch.length)
        cli.terminal.note(`${created.length} of ${rules.length} rules created.`);
    }
    const [only] = created;
    if (options.file === undefined && only) printItem(cli, ruleColumns, only);
    else printItems(cli, "rules", ruleColumns, created);
  });
}

function addUpdate(command: Command, cli: Cli): void {
  withDefinition(
    "update",
    command
      .command("update")
      .summary("change a rule")
      .description("Changes the members of a rule that the options name. The others stay.")
      .argument("<rule>")
      .option("--all-services", "the rule is for the sets of all services"),
  ).action(async (name: string, options: RuleOptions) => {
    // Checks the options before any request. The network of the rule is not known yet.
    if (Object.keys(toDefinition({ ...options, network: "default" })).length === 0)
      throw usageError("The command line names no change. See `berth rule update --help`.");
    const path = rulePath(name);
    const api = await cli.api();
    const { generation, network } = await api.request<Rule>("GET", path);
    const changes = toDefinition({ ...options, network });
    const body = { ...changes, endConnections: options.endConnections === true };
    const rule = await api.request<Rule>("PATCH", path, { body, generation });
    printItem(cli, ruleColumns, rule);
  });
}

function addExplain(command: Command, cli: Cli): void {
  command
    .command("explain")
    .summary("explain which rules decide a connection")
    .description(
      "Names the rule that decides a connection at its sender, and the one at its receiver. FROM and TO are each a set id, a service name or an address. PORT is 5432 (TCP), 53/udp or icmp.",
    )
    .argument("<from>", "set id, service name or address")
    .argument("<to>", "set id, service name or address")
    .argument("<port>", "5432 (TCP), 53/udp or icmp")
    .option("--network <network>", "only connections in this network")
    .action(async (from: string, to: string, port: string, options: { network?: string }) => {
      const query = { from, to, ...parseConnection(port), network: options.network };
      const path = "/v1/rules/explain";
      const explanation = await (await cli.api()).request<RuleExplanation>("GET", path, { query });
      if (cli.isForPrograms) printDocument(cli, explanation);
      else cli.terminal.out(plainLines(explanation.text).trimEnd());
    });
}

function parseConnection(text: string): { protocol: string; port?: string } {
  if (text === "icmp") return { protocol: "icmp" };
  const [, port, protocol = "tcp"] = /^(\d{1,5})(?:\/(tcp|udp))?$/.exec(text) ?? [];
  if (port === undefined) throw usageError(`"${text}" is not a port. Use 5432, 53/udp or icmp.`);
  return { protocol, port };
}

/** Adds the options of a rule. An update has no defaults: what it does not name stays. */
function withDefinition(operation: "create" | "update", command: Command): Command {
  const withDefault = (text: string, value: string) =>
    operation === "create" ? `${text} (default: ${value})` : text;
  return command
    .option("--direction <direction>", "ingress or egress")
    .option("--action <action>", "allow or deny")
    .option("--protocol <protocol>", withDefault("any, tcp, udp or icmp", "any"))
    .option("--port <ports>", "destination port, or range such as 8000-8099 (repeatable)", addTo)
    .option(
      "--service <service>",
      withDefault("the rule is for the sets of this service", "all sets"),
    )
    .option(
      "--peer <peer>",
      "the other end: any, network, service/NAME, or addresses such as 10.0.0.0/8",
    )
    .option(
      "--priority <number>",
      withDefault("0 to 9999; the highest decides, and deny precedes allow", "1000"),
    )
    .option("--end-connections", endConnectionsText);
}

/** True if the command line has an option of a rule beside --file. */
function describesRule(name: string | undefined, options: RuleOptions): boolean {
  const { file: _file, endConnections: _end, ...others } = options;
  return name !== undefined || Object.keys(others).length > 0;
}

function toRule(name: string | undefined, options: RuleOptions): Record<string, unknown> {
  if (name === undefined) throw usageError("The command line names neither a rule nor a --file.");
  rulePath(name);
  for (const option of ["direction", "action", "peer"] as const)
    if (options[option] === undefined) throw usageError(`--${option} is required.`);
  const network = options.network ?? "default";
  return { name, network, ...toDefinition({ ...options, network }) };
}

/** The members that the options name. `network` is the word for the network of the rule. */
function toDefinition(options: RuleOptions): Record<string, unknown> {
  const { direction, action, protocol, port, service, peer, priority } = options;
  if (service !== undefined && options.allServices)
    throw usageError("Name either --service or --all-services.");
  return {
    ...(direction === undefined ? {} : { direction }),
    ...(action === undefined ? {} : { action }),
    ...(protocol === undefined ? {} : { protocol }),
    ...(port === undefined ? {} : { ports: port.flatMap((text) => text.split(",")) }),
    ...(options.allServices ? { service: null } : {}),
    ...(service === undefined ? {} : { service }),
    ...(peer === undefined ? {} : { peer: toPeer(peer, options.network) }),
    ...(priority === undefined ? {} : { priority: toPriority(priority) }),
  };
}

function toPeer(text: string, network: string | undefined): Record<string, unknown> {
  if (text === "any") return { any: true };
  if (text === "network" && network !== undefined) return { network };
  const [, kind, name] = /^(service|network)\/(.*)$/.exec(text) ?? [];
  if (kind !== undefined && name !== undefined) return { [kind]: name };
  if (/^[0-9a-f.:/]+$/i.test(text) && /[.:]/.test(text)) return { cidr: text };
  throw usageError(
    `"${text}" is not a peer. Use any, network, service/NAME, or addresses such as 10.0.0.0/8.`,
  );
}

function toPriority(text: string): number {
  if (!/^\d{1,4}$/.test(text))
    throw usageError(`--priority ${text} is not a number from 0 to 9999.`);
  return Number(text);
}

/** The rules of a file: one document with a list, or one rule. The API validates them. */
async function readRules(cli: Cli, file: string): Promise<unknown[]> {
  const { readDocument } = await import("../manifests/read-manifests.ts"); // loads zod
  const document = await readDocument(file, cli.options.stdin);
  const rules = Array.isArray(document) ? (document as unknown[]) : [document];
  if (rules.length === 0 || rules.length > RULES_PER_NETWORK_MAX)
    throw usageError(`${file} has ${rules.length} rules. Expected 1 to ${RULES_PER_NETWORK_MAX}.`);
  return rules;
}
