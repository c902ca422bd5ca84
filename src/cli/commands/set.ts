import type { Command } from "commander";
import type { BerthSet } from "../../contracts/api/sets.ts";
import type { Cli } from "../cli-context.ts";
import { setPath } from "../api/lookup.ts";
import { printItem } from "../output/print-items.ts";
import { setColumns } from "../output/columns.ts";
import {
  DEFAULT_WAIT,
  parseTimeout,
  type SetGoal,
  waitForMove,
  waitForSet,
} from "../api/wait-for.ts";

const verbs: { verb: string; goal: SetGoal | "moved"; description: string }[] = [
  {
    verb: "stop",
    goal: "stopped",
    description: "stop the containers of a set; the set stays on its host",
  },
  { verb: "start", goal: "ready", description: "start a stopped set" },
  { verb: "restart", goal: "ready", description: "replace the containers of a set with new ones" },
  { verb: "move", goal: "moved", description: "move a set to another host" },
];

const goalTexts = {
  running: "runs",
  ready: "is ready",
  stopped: "has stopped",
  deleted: "is deleted",
  moved: "has moved",
} as const;

interface SetOptions {
  discardVolume?: boolean;
  wait?: boolean;
  timeout: string;
}

export function addSetCommand(program: Command, cli: Cli): void {
  const command = program.command("set").description("stop, start, restart or move one set");
  for (const { verb, goal, description } of verbs) {
    const subcommand = command.command(verb).description(description).argument("<set>");
    if (verb === "move")
      subcommand.option(
        "--discard-volume",
        "move the set although it then starts with an empty volume",
      );
    subcommand
      .option("--wait", `wait until the set ${goalTexts[goal]}`)
      .option("--timeout <time>", "maximum wait", DEFAULT_WAIT)
      .action(async (id: string, options: SetOptions) => {
        const timeoutSeconds = parseTimeout(options.timeout);
        const api = await cli.api();
        const body = options.discardVolume === true ? { body: { discardVolume: true } } : {};
        const set = await api.request<BerthSet>("POST", `${setPath(id)}/${verb}`, body);
        const wait = () =>
          goal === "moved"
            ? waitForMove(cli, api, id, timeoutSeconds)
            : waitForSet(cli, api, id, goal, timeoutSeconds);
        const after = options.wait === true ? await wait() : set;
        printItem(cli, setColumns, after ?? set);
      });
  }
}
