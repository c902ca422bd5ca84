import { type Command, Option } from "commander";
import type { Rollout, RolloutChange } from "../../contracts/api/rollout-answers.ts";
import type { Cli } from "../cli-context.ts";
import { usageError } from "../cli-error.ts";
import type { ApiClient } from "../api/api-client.ts";
import { listPages } from "../api/list-pages.ts";
import { servicePath } from "../api/lookup.ts";
import {
  DEFAULT_ROLLOUT_WAIT,
  findRollout,
  parseRolloutNumber,
  rolloutPath,
  waitForRollout,
} from "../api/rollouts.ts";
import { parseTimeout } from "../api/wait-for.ts";
import { plainText } from "../output/plain-text.ts";
import { itemsTable, printDocument, printItems } from "../output/print-items.ts";
import { rolloutColumns, rolloutSetColumns } from "../output/rollout-columns.ts";
import { addTo } from "../repeatable.ts";
import { type StrategyOptions, toChange, toSelection, toStrategy } from "./rollout-options.ts";

const LIMIT_DEFAULT = "20";
const LIMIT_MAX = 1_000;

interface WaitOptions {
  wait?: boolean;
  timeout: string;
}

interface StartOptions extends StrategyOptions, WaitOptions {
  set?: string[];
  toRevision?: string;
  ifActive?: string;
  message?: string;
}

interface ActionOptions extends Partial<WaitOptions> {
  number?: string;
  reason?: string;
  to?: string;
  full?: boolean;
}

export function addRolloutCommand(program: Command, cli: Cli): void {
  const command = program
    .command("rollout")
    .summary("change running sets step by step")
    .description("Starts, shows and changes rollouts, which give running sets another revision.");
  addStart(command, cli);
  addRestart(command, cli);
  addStatus(command, cli);
  addList(command, cli);
  addAction(command, cli, "pause", "begin to change no further sets; those that change finish");
  addAction(command, cli, "resume", "continue a paused rollout");
  addAction(command, cli, "rollback", "return all sets to the previous revision");
  addPromote(command, cli);
}

function addStart(command: Command, cli: Cli): void {
  withStrategy(command.command("start"))
    .summary("give containers of running sets a new image, or sets an earlier revision")
    .description(
      "Starts a rollout. Name the new image of one or several containers, or an earlier revision. Other containers stay untouched in sets that change in place.",
    )
    .option("--set <container=image>", "new image of a container (repeatable)", addTo)
    .option("--to-revision <revision>", "revision whose template the sets get")
    .action(async (name: string, options: StartOptions) => {
      await start(cli, name, toChange(options), options);
    });
}

function addRestart(command: Command, cli: Cli): void {
  withStrategy(command.command("restart"))
    .summary("restart all sets of a service step by step")
    .description("Starts a rollout that replaces the containers of each set once.")
    .action(async (name: string, options: StartOptions) => {
      await start(cli, name, { restart: true }, options);
    });
}

async function start(
  cli: Cli,
  name: string,
  change: Record<string, unknown>,
  options: StartOptions,
): Promise<void> {
  const strategy = toStrategy(options);
  const body = {
    ...change,
    ...(strategy === undefined ? {} : { strategy }),
    ...(options.ifActive === undefined ? {} : { ifActive: options.ifActive }),
    ...(options.message === undefined ? {} : { message: options.message }),
  };
  const timeoutSeconds = parseTimeout(options.timeout);
  const api = await cli.api();
  const path = `${servicePath(name)}/rollouts`;
  const answer = await api.request<RolloutChange>("POST", path, { body });
  const verb = answer.rollout.state === "queued" ? "queued" : "started";
  await finish(cli, api, answer, { verb, wanted: "completed", timeoutSeconds, ...options });
}

function addStatus(command: Command, cli: Cli): void {
  command
    .command("status")
    .summary("show a rollout, with the sets that change or have failed")
    .description("Shows the active rollout of a service, otherwise the newest one.")
    .argument("<service>")
    .option("--number <number>", "number of another rollout")
    .action(async (name: string, options: { number?: string }) => {
      const number = parseRolloutNumber(options.number);
      servicePath(name);
      printRollout(cli, await findRollout(await cli.api(), name, number));
    });
}

function printRollout(cli: Cli, rollout: Rollout): void {
  if (cli.isForPrograms) {
    printDocument(cli, rollout);
    return;
  }
  cli.terminal.out(itemsTable(cli, rolloutColumns, [rollout]));
  if (rollout.sets.length > 0) cli.terminal.out("");
  if (rollout.sets.length > 0) printItems(cli, "sets", rolloutSetColumns, rollout.sets);
}

function addList(command: Command, cli: Cli): void {
  command
    .command("list")
    .alias("ls")
    .description("list the rollouts of a service, the newest first")
    .argument("<service>")
    .option("--limit <count>", "maximum number of rollouts", LIMIT_DEFAULT)
    .action(async (name: string, options: { limit: string }) => {
      const limit = Number(options.limit);
      if (!Number.isInteger(limit) || limit < 1 || limit > LIMIT_MAX)
        throw usageError(`--limit ${options.limit} is not a number from 1 to ${LIMIT_MAX}.`);
      const path = `${servicePath(name)}/rollouts`;
      const { items, isCut } = await listPages<Rollout>(await cli.api(), path, limit);
      printItems(cli, "rollouts", rolloutColumns, items);
      if (isCut)
        cli.terminal.note(`Only the first ${limit} are shown. --limit raises this number.`);
    });
}

function addAction(
  command: Command,
  cli: Cli,
  action: "pause" | "resume" | "rollback",
  description: string,
): void {
  const added = ofRollout(command.command(action).description(description));
  if (action !== "pause") withWait(added);
  const verb = { pause: "paused", resume: "resumed", rollback: "rolling back" }[action];
  added.action(async (name: string, options: ActionOptions) => {
    await act(cli, name, action, { ...options, verb, body: {} });
  });
}

function addPromote(command: Command, cli: Cli): void {
  withWait(
    ofRollout(
      command
        .command("promote")
        .summary("begin the next step, or give the current step other sets")
        .description(
          "Begins the next step now. With --to, the current step gets that many sets instead: updated sets beyond them return to the previous revision.",
        ),
    ),
  )
    .option("--to <sets>", "sets of the current step, such as 3 or 50%")
    .option("--full", "update all sets, without the remaining steps")
    .action(async (name: string, options: ActionOptions) => {
      if (options.to !== undefined && options.full === true)
        throw usageError("Set at most one of --to and --full.");
      const body = {
        ...(options.to === undefined ? {} : { select: toSelection("--to", options.to) }),
        ...(options.full === true ? { isFull: true } : {}),
      };
      await act(cli, name, "promote", { ...options, verb: "promoted", body });
    });
}

async function act(
  cli: Cli,
  name: string,
  action: string,
  options: ActionOptions & { verb: string; body: Record<string, unknown> },
): Promise<void> {
  const number = parseRolloutNumber(options.number);
  servicePath(name);
  const timeoutSeconds = parseTimeout(options.timeout ?? DEFAULT_ROLLOUT_WAIT);
  const api = await cli.api();
  const rollout = await findRollout(api, name, number);
  const body = {
    ...options.body,
    ...(options.reason === undefined ? {} : { reason: options.reason }),
  };
  const path = `${rolloutPath(name, rollout.number)}/${action}`;
  const answer = await api.request<RolloutChange>("POST", path, { body });
  const wanted = action === "rollback" ? "rolled-back" : "completed";
  await finish(cli, api, answer, { ...options, wanted, timeoutSeconds });
}

/** Prints what the change causes, and waits if requested. */
async function finish(
  cli: Cli,
  api: ApiClient,
  answer: RolloutChange,
  options: {
    verb: string;
    wanted: "completed" | "rolled-back";
    wait?: boolean;
    timeoutSeconds: number;
  },
): Promise<void> {
  const { rollout, effects } = answer;
  if (!cli.isForPrograms) {
    const verb = cli.terminal.paintOut("good", options.verb);
    cli.terminal.out(`service/${rollout.service} rollout ${rollout.number} ${verb}`);
    for (const effect of effects) cli.terminal.out(`  ${plainText(effect)}`);
  }
  const last = options.wait === true ? await waitForRollout(cli, api, rollout, options) : rollout;
  if (cli.isForPrograms) printDocument(cli, { rollout: last, effects });
}

function ofRollout(command: Command): Command {
  return command
    .argument("<service>")
    .option("--number <number>", "number of the rollout (default: that of the active one)")
    .option("--reason <text>", "text that Berth stores with the change");
}

function withWait(command: Command): Command {
  return command
    .option("--wait", "wait until the rollout has ended, is paused, or waits for a promotion")
    .option("--timeout <time>", "maximum wait", DEFAULT_ROLLOUT_WAIT);
}

function withStrategy(command: Command): Command {
  return withWait(
    command
      .argument("<service>")
      .option("--steps <list>", "sets of each step, such as 1,25%,100%")
      .option("--promote-after <time>", "time without a fault after which the next step begins")
      .option("--manual", "begin each further step only after `berth rollout promote`")
      .option("--in-place", "replace containers in running sets")
      .option("--start-first", "start another set before a set ends")
      .option("--parallel <sets>", "sets that change at the same time, such as 3 or 25%")
      .option("--progress-deadline <time>", "time after which a set that is not ready has failed")
      .addOption(
        new Option("--on-failure <action>", "what a failed set does to the rollout").choices([
          "pause",
          "rollback",
        ]),
      )
      .addOption(
        new Option("--if-active <action>", "what to do while another rollout is active").choices([
          "reject",
          "wait",
          "supersede",
        ]),
      )
      .option("--message <text>", "text that Berth stores with the rollout"),
  );
}
