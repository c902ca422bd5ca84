import type { Command } from "commander";
import type { Cli } from "../cli-context.ts";

type AddCommands = (program: Command, cli: Cli) => void;

interface CommandGroup {
  /** The commands that the group adds to the program. */
  names: readonly string[];
  aliases?: readonly string[];
  load: () => Promise<AddCommands>;
}

/**
 * All commands in the order of the help. A group loads when the command line names one of its
 * commands.
 */
export const commandGroups: readonly CommandGroup[] = [
  { names: ["apply"], load: async () => (await import("./apply.ts")).addApplyCommand },
  { names: ["get"], load: async () => (await import("./get.ts")).addGetCommand },
  { names: ["top"], load: async () => (await import("./top.ts")).addTopCommand },
  { names: ["scale"], load: async () => (await import("./scale.ts")).addScaleCommand },
  { names: ["resize"], load: async () => (await import("./resize.ts")).addResizeCommand },
  { names: ["rollout"], load: async () => (await import("./rollout.ts")).addRolloutCommand },
  { names: ["delete"], load: async () => (await import("./delete.ts")).addDeleteCommand },
  { names: ["set"], load: async () => (await import("./set.ts")).addSetCommand },
  { names: ["volume"], load: async () => (await import("./volume.ts")).addVolumeCommand },
  { names: ["plan"], load: async () => (await import("./plan.ts")).addPlanCommand },
  { names: ["explain"], load: async () => (await import("./explain.ts")).addExplainCommand },
  { names: ["wait"], load: async () => (await import("./wait.ts")).addWaitCommand },
  { names: ["events"], load: async () => (await import("./events.ts")).addEventsCommand },
  { names: ["logs"], load: async () => (await import("./logs.ts")).addLogsCommand },
  {
    names: ["exec", "attach"],
    load: async () => (await import("./exec.ts")).addSessionCommands,
  },
  {
    names: [
      "cordon",
      "uncordon",
      "accept-machine",
      "rotate-credential",
      "adopt-volumes",
      "label",
      "taint",
      "gateway",
      "drain",
    ],
    load: async () => (await import("./host.ts")).addHostCommands,
  },
  { names: ["hook"], load: async () => (await import("./hook.ts")).addHookCommand },
  { names: ["registry"], load: async () => (await import("./registry.ts")).addRegistryCommand },
  { names: ["network"], load: async () => (await import("./network.ts")).addNetworkCommand },
  {
    names: ["rule"],
    aliases: ["rules"],
    load: async () => (await import("./rule.ts")).addRuleCommand,
  },
  { names: ["demand"], load: async () => (await import("./demand.ts")).addDemandCommand },
  {
    names: ["token", "tenant", "enroll-token"],
    load: async () => (await import("./access.ts")).addAccessCommands,
  },
  { names: ["pool"], load: async () => (await import("./pool.ts")).addPoolCommand },
  {
    names: ["up", "agent"],
    load: async () => (await import("./processes.ts")).addProcessCommands,
  },
  { names: ["bench"], load: async () => (await import("./bench.ts")).addBenchCommand },
  {
    names: ["completion", "__complete"],
    load: async () => (await import("./completion.ts")).addCompletionCommands,
  },
  { names: ["version"], load: async () => (await import("./version.ts")).addVersionCommand },
];

/**
 * Adds the group of the command that the command line names. The help, the completion and an
 * unknown command need all groups, and the version needs none.
 */
export async function addCommandsFor(
  argv: readonly string[],
  program: Command,
  cli: Cli,
): Promise<void> {
  const name = findCommandName(argv, program);
  const isVersion = name === undefined && argv.some((word) => ["-V", "--version"].includes(word));
  if (isVersion) return;
  const named = commandGroups.find(
    ({ names, aliases = [] }) => name !== undefined && [...names, ...aliases].includes(name),
  );
  const groups = named && name !== "__complete" ? [named] : commandGroups;
  for (const add of await Promise.all(groups.map(({ load }) => load()))) add(program, cli);
}

/** The first word that is neither a global option nor the value of one. */
function findCommandName(argv: readonly string[], program: Command): string | undefined {
  let isValue = false;
  for (const word of argv) {
    if (isValue) isValue = false;
    else if (!word.startsWith("-")) return word;
    else {
      const option = program.options.find(({ short, long }) => word === short || word === long);
      isValue = option?.required === true;
    }
  }
  return undefined;
}
