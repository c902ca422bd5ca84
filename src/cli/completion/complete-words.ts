import type { Command, Option } from "commander";
import { ApiClient } from "../api/api-client.ts";
import { type Cli, outputFormats } from "../cli-context.ts";
import { listPages } from "../api/list-pages.ts";
import { serviceGoals, setGoals } from "../api/wait-for.ts";

const COMPLETION_TIMEOUT_MS = 1_500;
const CANDIDATES_MAX = 500;

export const shells = ["bash", "zsh", "fish"] as const;
export type Shell = (typeof shells)[number];

/** The API lists with the candidates of an argument or of an option's value. */
const listOfWord: Record<string, readonly string[]> = {
  service: ["services"],
  set: ["sets"],
  "set|service": ["services", "sets"],
  target: ["services", "sets"],
  host: ["hosts"],
  token: ["tokens"],
  pool: ["host-pools"],
  volume: ["volumes"],
  registry: ["registries"],
  network: ["networks"],
  rule: ["rules"],
  from: ["services", "sets"],
  to: ["services", "sets"],
  "--network": ["networks"],
  "--service": ["services"],
  "--set": ["sets"],
  "--host": ["hosts"],
  "--pool": ["host-pools"],
  "--tenant": ["tenants"],
  "--of-tenant": ["tenants"],
};

/** The API list of each KIND of `berth get KIND NAME`. */
const listOfKind: Record<string, string> = {
  services: "services",
  service: "services",
  svc: "services",
  sets: "sets",
  set: "sets",
  hosts: "hosts",
  host: "hosts",
  decisions: "services",
  demands: "services",
  hooks: "services",
  events: "services",
  tokens: "tokens",
  tenants: "tenants",
  pools: "host-pools",
  volumes: "volumes",
  registries: "registries",
  networks: "networks",
  rules: "rules",
  endpoints: "services",
};

/** The fixed values of an argument or option. The command's name distinguishes equal options. */
const valuesOfWord: Record<string, readonly string[]> = {
  kind: Object.keys(listOfKind).filter((kind) => kind.endsWith("s")),
  shell: shells,
  "--output": outputFormats,
  "--direction": ["ingress", "egress"],
  "--action": ["allow", "deny"],
  "--protocol": ["any", "tcp", "udp", "icmp"],
  "--on-failure": ["pause", "rollback"],
  "--if-active": ["reject", "wait", "supersede"],
  "--role": ["admin", "operator", "tenant", "read", "enroll"],
  "service --for": serviceGoals,
  "set --for": setGoals,
};

/**
 * Completes the last of `words`, which are all words after "berth". Names come from the API within
 * 1.5 s. Without the API it completes commands and options. Never throws.
 */
export async function completeWords(
  program: Command,
  cli: Cli,
  words: readonly string[],
): Promise<string[]> {
  const current = words.at(-1) ?? "";
  const { command, positionals, pending } = walk(program, words.slice(0, -1));
  const candidates = await candidatesFor(program, cli, command, positionals, pending, current);
  return candidates.filter((candidate) => candidate.startsWith(current));
}

interface Walked {
  command: Command;
  /** The arguments of `command` so far. */
  positionals: string[];
  /** The option whose value is the next word. */
  pending: Option | undefined;
}

function walk(program: Command, words: readonly string[]): Walked {
  let command = program;
  let positionals: string[] = [];
  let pending: Option | undefined;
  for (const word of words) {
    if (pending) {
      pending = undefined;
      continue;
    }
    if (word.startsWith("-")) {
      const option = optionsOf(program, command).find(
        (known) => known.short === word || known.long === word,
      );
      if (option && (option.required || option.optional)) pending = option;
      continue;
    }
    const child = positionals.length === 0 ? childOf(command, word) : undefined;
    if (child) {
      command = child;
      positionals = [];
    } else positionals.push(word);
  }
  return { command, positionals, pending };
}

async function candidatesFor(
  program: Command,
  cli: Cli,
  command: Command,
  positionals: readonly string[],
  pending: Option | undefined,
  current: string,
): Promise<readonly string[]> {
  if (pending) {
    const option = pending.long ?? "";
    return valuesOfWord[`${command.name()} ${option}`] ?? (await valuesFor(cli, option));
  }
  if (current.startsWith("-"))
    return optionsOf(program, command).flatMap(({ long }) => (long === undefined ? [] : [long]));
  const children = positionals.length === 0 ? visibleChildren(command) : [];
  if (command.name() === "get" && positionals.length === 1) {
    const list = listOfKind[positionals[0] ?? ""];
    return list === undefined ? [] : await listNames(cli, list);
  }
  const argument = command.registeredArguments[positionals.length];
  return [...children, ...(argument ? await valuesFor(cli, argument.name()) : [])];
}

async function valuesFor(cli: Cli, word: string): Promise<readonly string[]> {
  const values = valuesOfWord[word];
  if (values) return values;
  const lists = await Promise.all((listOfWord[word] ?? []).map((list) => listNames(cli, list)));
  return lists.flat();
}

async function listNames(cli: Cli, list: string): Promise<string[]> {
  try {
    const { options } = await cli.api();
    const signal = AbortSignal.any([options.signal, AbortSignal.timeout(COMPLETION_TIMEOUT_MS)]);
    const api = new ApiClient({ ...options, signal });
    const { items } = await listPages<{ id?: string; name?: string; registry?: string }>(
      api,
      `/v1/${list}`,
      CANDIDATES_MAX,
    );
    return items.flatMap((item) => item.name ?? item.registry ?? item.id ?? []);
  } catch {
    return []; // a completion shows no errors
  }
}

function optionsOf(program: Command, command: Command): readonly Option[] {
  return command === program ? program.options : [...command.options, ...program.options];
}

function childOf(command: Command, word: string): Command | undefined {
  return command.commands.find((child) => child.name() === word || child.aliases().includes(word));
}

function visibleChildren(command: Command): string[] {
  return command
    .createHelp()
    .visibleCommands(command)
    .map((child) => child.name());
}

const scripts: Record<Shell, readonly string[]> = {
  bash: [
    "# berth completion for bash: source <(berth completion bash)",
    "_berth() {",
    "  local IFS=$'\\n'",
    '  COMPREPLY=($(berth __complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))',
    "}",
    "complete -o default -F _berth berth",
  ],
  zsh: [
    "#compdef berth",
    "# berth completion for zsh: source <(berth completion zsh), after compinit",
    "_berth() {",
    "  local found",
    '  found="$(berth __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)"',
    '  if [[ -n "$found" ]]; then',
    '    compadd -- "${(@f)found}"',
    "  else",
    "    _files",
    "  fi",
    "}",
    "compdef _berth berth",
  ],
  fish: [
    "# berth completion for fish: berth completion fish | source",
    "function __berth_complete",
    "  set -l words (commandline -opc) (commandline -ct)",
    "  berth __complete -- $words[2..-1] 2>/dev/null",
    "end",
    "complete -c berth -f -a '(__berth_complete)'",
    "complete -c berth -s f -l file -r -F",
  ],
};

/** The script that a shell sources. It calls `berth` for each completion, so it stays current. */
export function completionScript(shell: Shell): string {
  return scripts[shell].join("\n");
}
