import type { Service } from "../../contracts/api/services.ts";
import { WAIT_SECONDS_MAX } from "../../contracts/common/limits.ts";
import type { BerthSet } from "../../contracts/api/sets.ts";
import { formatDuration, parseSeconds } from "../output/format-amounts.ts";
import type { ApiClient } from "./api-client.ts";
import type { Cli } from "../cli-context.ts";
import { CliError, usageError } from "../cli-error.ts";
import { exitCodes } from "../exit-codes.ts";
import { servicePath, setPath } from "./lookup.ts";
import { plainText } from "../output/plain-text.ts";
import { describeCounts } from "../output/columns.ts";

export const setGoals = ["running", "ready", "stopped", "deleted"] as const;
export type SetGoal = (typeof setGoals)[number];
export const serviceGoals = ["settled", "deleted"] as const;
export type ServiceGoal = (typeof serviceGoals)[number];

export const DEFAULT_WAIT = "5m";

/** A wait ends this long after the scheduler reported that no host fits: hosts may still come. */
const BLOCKED_WAIT_MS = 10_000;

/** Seconds of a --timeout option: "90", "90s", "5m". Throws a usage error for anything else. */
export function parseTimeout(text: string): number {
  const seconds = parseSeconds(text);
  if (seconds === undefined)
    throw usageError(`"${text}" is not a time, such as 30, 90s, 5m or 2h.`);
  return seconds;
}

/** The option's text as one of `goals`, or a usage error that lists them. */
export function parseGoal<G extends string>(goals: readonly G[], text: string): G {
  const goal = goals.find((known) => known === text);
  if (goal === undefined)
    throw usageError(`--for ${text} is unknown: expected ${goals.join(" or ")}.`);
  return goal;
}

/**
 * Waits until a service has settled or is gone, and shows how it goes: a live line on a terminal, else a line at each change.
 * Resolves with the service, null once deleted. Throws CliError timedOut after `timeoutSeconds`; what was asked for goes on.
 */
export async function waitForService(
  cli: Cli,
  api: ApiClient,
  name: string,
  goal: ServiceGoal,
  timeoutSeconds: number,
): Promise<Service | null> {
  return await poll(cli, name, goal, timeoutSeconds, async (waitSeconds) => {
    const answer = await orGone(
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
      line: service ? serviceLine(cli, service) : "gone",
      ...(service && goal === "settled" ? { blocker: findBlocker(service) } : {}),
    };
  });
}

/** As waitForService, for one set. */
export async function waitForSet(
  cli: Cli,
  api: ApiClient,
  id: string,
  goal: SetGoal,
  timeoutSeconds: number,
): Promise<BerthSet | null> {
  return await poll(cli, id, goal, timeoutSeconds, (waitSeconds) =>
    askForSet(api, id, goal, waitSeconds),
  );
}

/** Until the set is where it should be elsewhere, or gone because another is there in its place. */
export async function waitForMove(
  cli: Cli,
  api: ApiClient,
  id: string,
  timeoutSeconds: number,
): Promise<BerthSet | null> {
  return await poll(cli, id, "moved", timeoutSeconds, async (waitSeconds) => {
    const answer = await askForSet(api, id, "deleted", waitSeconds);
    return {
      ...answer,
      reached: answer.reached || (answer.thing !== null && hasMoved(answer.thing)),
    };
  });
}

function hasMoved({ moving, desired, ready, state }: BerthSet): boolean {
  return !moving && (desired === "stopped" ? state === "stopped" : ready);
}

async function askForSet(
  api: ApiClient,
  id: string,
  goal: SetGoal,
  waitSeconds: number,
): Promise<PollResult<BerthSet>> {
  const { reached, set } = await orGone(
    goal,
    { reached: true, set: null },
    api.request<{ reached: boolean; set: BerthSet | null }>("GET", `${setPath(id)}/wait`, {
      query: { state: goal, timeoutSeconds: waitSeconds },
      timeoutMs: (WAIT_SECONDS_MAX + 10) * 1000,
    }),
  );
  const reason = set?.reason ? `: ${plainText(set.reason.text)}` : "";
  const line = set ? `${set.state}${set.ready ? ", ready" : ""}${reason}` : "gone";
  return { reached, thing: set, line };
}

/** What is to be gone may be so before anybody waits for it. */
async function orGone<T>(goal: string, gone: T, answer: Promise<T>): Promise<T> {
  return answer.catch((error: unknown) => {
    if (goal === "deleted" && error instanceof CliError && error.code === "not-found") return gone;
    throw error;
  });
}

interface PollResult<T> {
  reached: boolean;
  thing: T | null;
  line: string;
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

/** The API holds each poll until the goal is reached, at most one second, so that the line stays live. */
async function poll<T>(
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
      if (!cli.isForPrograms)
        cli.terminal.note(`${name}  ${cli.terminal.paintNote("good", goal)} after ${elapsed}`);
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
      const state = result.line.replace(/\.$/, ""); // a reason is a sentence already
      throw new CliError(`${name} was not ${goal} within ${timeoutSeconds} s: ${state}.`, {
        exitCode: exitCodes.timedOut,
        hints: [`Berth continues. \`berth explain ${name}\` shows the reason.`],
      });
    }
  }
}

function unplaceableError(name: string, blocker: string): CliError {
  return new CliError(`No host fits the pending sets of ${name}: ${blocker}`, {
    exitCode: exitCodes.unplaceable,
    hints: [
      "The sets stay pending, and Berth places them when a host fits.",
      `Add capacity, or change the service. \`berth explain ${name}\` lists the hosts and reasons.`,
    ],
  });
}

/** "4/6 ready, 2 starting": and the most frequent reason when something is wrong. */
export function serviceLine(cli: Cli, service: Service): string {
  const { counts, desiredReplicas, reason } = service;
  const ready = `${counts.ready}/${desiredReplicas} ready`;
  const busy = describeCounts(counts);
  const tone = counts.ready === desiredReplicas ? "good" : "warn";
  const why = reason ? ` (${plainText(reason.text)})` : "";
  return `${cli.terminal.paintNote(tone, ready)}${busy === "" ? "" : `, ${busy}`}${why}`;
}
