import type { Rollout } from "../../contracts/api/rollout-answers.ts";
import type { RolloutState } from "../../contracts/api/rollouts.ts";
import { WAIT_SECONDS_MAX } from "../../contracts/common/limits.ts";
import type { Cli } from "../cli-context.ts";
import { CliError, usageError } from "../cli-error.ts";
import { exitCodes } from "../exit-codes.ts";
import { describeRollout } from "../output/rollout-columns.ts";
import { plainSentence } from "../output/plain-text.ts";
import type { ApiClient } from "./api-client.ts";
import { servicePath } from "./lookup.ts";
import { poll } from "./wait-for.ts";

export const DEFAULT_ROLLOUT_WAIT = "30m";

const activeStates: ReadonlySet<RolloutState> = new Set(["running", "paused", "rolling-back"]);
/** At most one rollout is queued and newer than the active one. */
const NEWEST = 3;

/** Parses the value of --number. Throws a usage error for anything but a positive integer. */
export function parseRolloutNumber(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const number = Number(text);
  if (!/^\d{1,9}$/.test(text) || number < 1)
    throw usageError(`--number ${text} is not the number of a rollout, such as 7.`);
  return number;
}

export function rolloutPath(service: string, number: number): string {
  return `${servicePath(service)}/rollouts/${number}`;
}

/**
 * Returns the rollout with this number, or without one the active rollout of the service, otherwise
 * the newest one. Throws a CliError if the service has none.
 */
export async function findRollout(
  api: ApiClient,
  service: string,
  number: number | undefined,
): Promise<Rollout> {
  if (number !== undefined) return api.request<Rollout>("GET", rolloutPath(service, number));
  const { items } = await api.request<{ items: Rollout[] }>(
    "GET",
    `${servicePath(service)}/rollouts`,
    { query: { limit: NEWEST } },
  );
  const rollout = items.find(({ state }) => activeStates.has(state)) ?? items[0];
  if (rollout) return rollout;
  throw new CliError(`Service ${service} has had no rollout.`, {
    exitCode: exitCodes.notFound,
    hints: [`\`berth rollout start ${service} --set CONTAINER=IMAGE\` starts one.`],
  });
}

interface RolloutWait {
  /** The state that the user wants: completed, or rolled-back after `berth rollout rollback`. */
  wanted: "completed" | "rolled-back";
  timeoutSeconds: number;
}

/**
 * Waits until the rollout has ended, is paused, or waits for a promotion. Throws a CliError
 * rolloutIncomplete if it neither has the wanted state nor waits for a promotion.
 */
export async function waitForRollout(
  cli: Cli,
  api: ApiClient,
  { service, number }: Pick<Rollout, "service" | "number">,
  { wanted, timeoutSeconds }: RolloutWait,
): Promise<Rollout> {
  const name = `${service} rollout ${number}`;
  const rollout = await poll(cli, name, wanted, timeoutSeconds, async (waitSeconds) => {
    const { reached, rollout: now } = await api.request<{ reached: boolean; rollout: Rollout }>(
      "GET",
      `${rolloutPath(service, number)}/wait`,
      {
        query: { for: "still", timeoutSeconds: waitSeconds },
        timeoutMs: (WAIT_SECONDS_MAX + 10) * 1000,
      },
    );
    return { reached, thing: now, line: describeRollout(now), outcome: outcomeOf(now, wanted) };
  });
  if (!rollout) throw new Error("a rollout is never deleted before its service");
  assertAsWanted(rollout, wanted);
  return rollout;
}

function outcomeOf({ state, phase, step, steps }: Rollout, wanted: RolloutWait["wanted"]) {
  if (phase === "awaiting-promotion" && state === "running")
    return { text: `waits for a promotion, step ${step} of ${steps}`, tone: "good" } as const;
  return { text: state, tone: state === wanted ? "good" : "bad" } as const;
}

function assertAsWanted(rollout: Rollout, wanted: RolloutWait["wanted"]): void {
  const { service, number, state, reason } = rollout;
  if (state === wanted || state === "running") return;
  const why = reason ? `: ${plainSentence(reason.text)}` : ".";
  const hints =
    state === "paused"
      ? [
          `\`berth rollout resume ${service}\` continues, and \`berth rollout rollback ${service}\` returns all sets.`,
        ]
      : [];
  throw new CliError(`Rollout ${number} of ${service} is ${state}${why}`, {
    exitCode: exitCodes.rolloutIncomplete,
    hints: [...hints, `\`berth rollout status ${service}\` lists the sets that failed.`],
  });
}
