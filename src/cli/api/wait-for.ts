import type { Service } from "../../contracts/api/services.ts";
import { WAIT_SECONDS_MAX } from "../../contracts/common/limits.ts";
import type { BerthSet } from "../../contracts/api/sets.ts";
import { formatDuration, parseSeconds } from "../output/format-amounts.ts";
import type { ApiClient } from "./api-client.ts";
import type { Cli } from "../cli-context.ts";
import { CliError, usageError } from "../cli-error.ts";
import { exitCodes } from "../exit-codes.ts";
import { servicePath, setPath } from "./lookup.ts";
import { plainSentence, plainText } from "../output/plain-text.ts";
import { describeCounts } from "../output/columns.ts";
import type { Tone } from "../output/terminal.ts";

export const setGoals = ["running", "ready", "stopped", "deleted"] as const;
export type SetGoal = (typeof setGoals)[number];
export const serviceGoals = ["settled", "deleted"] as const;
export type ServiceGoal = (typeof serviceGoals)[number];

export const DEFAULT_WAIT = "5m";

/** A wait ends this long after the scheduler reported that no host fits: hosts may still come. */
const BLOCKED_WAIT_MS = 10_000;

/** Parses "90", "90s" or "5m" to seconds. Throws a usage error for anything else. */
export function parseTimeout(text: string): number {
  const seconds = parseSeconds(text);
  if (seconds === undefined)
    throw usageError(`"${text}" is not a duration. Use seconds or a unit: 30, 90s, 5m, 2h.`);
  return seconds;
}

/** Parses the value of --for. Throws a usage error that lists the goals. */
export function parseGoal<G extends string>(goals: readonly G[], text: string): G {
  const goal = goals.find((known) => known === text);
  if (goal === undefined) throw usageError(`--for ${text} is unknown. Use ${goals.join(" or ")}.`);
  return goal;
}

/**
 * Waits until a service has settled or is deleted. Shows the progress: a live line on a terminal,
 * otherwise a line at each change. Resolves with the service, or null once it is deleted. Throws
 * CliError timedOut after `timeoutSeconds`; Berth continues the work.
 */
export async function waitForService(
  cli: Cli,
  api: ApiClient,
  name: string,
  goal: ServiceGoal,
  timeoutSeconds: number,
): Promise<Service | null> {
  return await poll(cli, name, goal, timeoutSeconds, async (waitSeconds) => {
    const answer = await orDeleted(
      goal,
      { reached: true, service: null },
      api.request<{ reached: boolean; service: Service | null }>(
        "GET",
        `${servicePath(name)}/wait`,
        {
          query: { for: goal, timeoutSeconds: waitSeconds },
          timeoutMs: (WAIT_SECONDS_MAX + 10) * 1000,
        },
      ),
    );
    const { reached, service } = answer;
    return {
      reached,
      thing: service,
      line: service ? serviceLine(cli, service) : "deleted",
      ...(service && goal === "settled" ? { blocker: findBlocker(service) } : {}),
    };
  });
}

/** Waits for one set, as waitForService does for a service. */
export async function waitForSet(
  cli: Cli,
  api: ApiClient,
  id: string,
  goal: SetGoal,
  timeoutSeconds: number,
): Promise<BerthSet | null> {
  return await poll(cli, id, goal, timeoutSeconds, (waitSeconds) =>
    pollSet(api, id, goal, waitSeconds),
  );
}

/** Waits until the set runs on another host, or until its replacement runs and it is deleted. */
export async function waitForMove(
  cli: Cli,
  api: ApiClient,
  id: string,
  timeoutSeconds: number,
): Promise<BerthSet | null> {
  return await poll(cli, id, "moved", timeoutSeconds, async (waitSeconds) => {
    const answer = await pollSet(api, id, "deleted", waitSeconds);
    return {
      ...answer,
      reached: answer.reached || (answer.thing !== null && hasMoved(answer.thing)),
    };
  });
}

function hasMoved({ moving, desired, ready, state }: BerthSet): boolean {
  return !moving && (desired === "stopped" ? state === "stopped" : ready);
}

async function pollSet(
  api: ApiClient,
  id: string,
  goal: SetGoal,
  waitSeconds: number,
): Promise<PollResult<BerthSet>> {
  const { reached, set } = await orDeleted(
    goal,
    { reached: true, set: null },
    api.request<{ reached: boolean; set: BerthSet | null }>("GET", `${setPath(id)}/wait`, {
      query: { for: goal, state: goal, timeoutSeconds: waitSeconds }, // an older API reads `state`
      timeoutMs: (WAIT_SECONDS_MAX + 10) * 1000,
    }),
  );
  const reason = set?.reason ? `: ${plainText(set.reason.text)}` : "";
  const line = set ? `${set.state}${set.ready ? ", ready" : ""}${reason}` : "deleted";
  return { reached, thing: set, line };
}

/** Resolves with `deleted` when the resource does not exist and the wait is for its deletion. */
async function orDeleted<T>(goal: string, deleted: T, answer: Promise<T>): Promise<T> {
  return answer.catch((error: unknown) => {
    const isNotFound = error instanceof CliError && error.code === "not-found";
    if (goal === "deleted" && isNotFound) return deleted;
    throw error;
  });
}

export interface PollResult<T> {
  reached: boolean;
  thing: T | null;
  line: string;
  /** The result of the wait, if it is not the goal. */
  outcome?: { text: string; tone: Tone } | undefined;
  /** Why the goal is out of reach for now, if it is. */
  blocker?: string | undefined;
}

/**
 * The reason why the sets of a service fit on no host. Undefined while a set changes its state,
 * which may free capacity.
 */
function findBlocker({ counts, reason }: Service): string | undefined {
  const changing = counts.placed + counts.preparing + counts.starting + counts.stopping;
  if (counts.pending === 0 || changing > 0 || reason?.code !== "no-host-fits") return undefined;
  return plainText(reason.text);
}

/**
 * Calls `ask` until the goal is reached, and shows the progress. The API holds each poll for at
 * most one second, so that the elapsed time stays current. Throws CliError timedOut after
 * `timeoutSeconds`.
 */
export async function poll<T>(
  cli: Cli,
  name: string,
  goal: string,
  timeoutSeconds: number,
  ask: (waitSeconds: number) => Promise<PollResult<T>>,
): Promise<T | null> {
  const beganAt = cli.now;
  const deadline = beganAt + timeoutSeconds * 1000;
  let lastLine = "";
  let blockedSince: number | undefined;
  for (;;) {
    const leftSeconds = Math.max(0, Math.ceil((deadline - cli.now) / 1000));
    const result = await ask(Math.min(1, leftSeconds));
    const elapsed = formatDuration(cli.now - beganAt);
    if (result.reached) {
      cli.terminal.endLive();
      const { outcome = { text: goal, tone: "good" } } = result;
      if (!cli.isForPrograms)
        cli.terminal.note(
          `${name}  ${cli.terminal.paintNote(outcome.tone, outcome.text)} after ${elapsed}`,
        );
      return result.thing;
    }
    if (cli.terminal.isStderrTty) cli.terminal.live(`${name}  ${result.line}  ${elapsed}`);
    else if (result.line !== lastLine) cli.terminal.note(`${name}  ${result.line}`);
    lastLine = result.line;
    blockedSince = result.blocker === undefined ? undefined : (blockedSince ?? cli.now);
    if (blockedSince !== undefined && cli.now - blockedSince >= BLOCKED_WAIT_MS) {
      cli.terminal.endLive();
      throw unplaceableError(name, result.blocker ?? "");
    }
    if (cli.now >= deadline) {
      cli.terminal.endLive();
      const state = plainSentence(result.line);
      throw new CliError(`${name} was not ${goal} within ${timeoutSeconds} s: ${state}`, {
        exitCode: exitCodes.timedOut,
        hints: [`Berth continues. \`berth explain ${name}\` shows the reason.`],
      });
    }
  }
}

function unplaceableError(name: string, blocker: string): CliError {
  return new CliError(`No host fits the pending sets of ${name}: ${plainSentence(blocker)}`, {
    exitCode: exitCodes.unplaceable,
    hints: [
      "The sets stay pending, and Berth places them when a host fits.",
      `Add capacity, or change the service. \`berth explain ${name}\` lists the hosts and reasons.`,
    ],
  });
}

/** Describes the sets: "4/6 ready, 2 starting", and the most frequent reason of a problem. */
export function serviceLine(cli: Cli, service: Service): string {
  const { counts, desiredReplicas, reason } = service;
  const ready = `${counts.ready}/${desiredReplicas} ready`;
  const busy = describeCounts(counts);
  const tone = counts.ready === desiredReplicas ? "good" : "warn";
  const why = reason ? `: ${plainText(reason.text)}` : "";
  return `${cli.terminal.paintNote(tone, ready)}${busy === "" ? "" : `, ${busy}`}${why}`;
}
