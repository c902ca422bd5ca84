import { Command } from "commander";
import { expect, test } from "vitest";
import type { Cli } from "../cli-context.ts";
import { addCommandsFor, commandGroups } from "./command-groups.ts";

const cli = {} as Cli; // commands use it in their actions only

function createProgram(): Command {
  return new Command("berth").option("-o, --output <format>").version("1.0.0");
}

test.each(commandGroups)("$names are the commands that their module adds", async (group) => {
  const program = createProgram();
  const add = await group.load();
  add(program, cli);
  expect(program.commands.map((command) => command.name())).toEqual(group.names);
});

test.each([
  [["get", "services"], ["get"]],
  [["-o", "json", "get", "services"], ["get"]],
  [
    ["--output", "json", "drain", "--help"],
    [
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
  ],
  [["--version"], []],
])("%j loads only %j", async (argv, names) => {
  const program = createProgram();
  await addCommandsFor(argv, program, cli);
  expect(program.commands.map((command) => command.name())).toEqual(names);
});

test.each([[["--help"]], [["help", "get"]], [["frobnicate"]], [["__complete", "ge"]], [[]]])(
  "%j loads all commands",
  async (argv) => {
    const program = createProgram();
    await addCommandsFor(argv, program, cli);
    expect(program.commands).toHaveLength(commandGroups.flatMap(({ names }) => names).length);
  },
);
