import type { RolloutSelection } from "../../contracts/api/rollouts.ts";
import { usageError } from "../cli-error.ts";
import { parseTimeout } from "../api/wait-for.ts";

/** The options of `berth rollout start` and `restart` that make up a strategy. */
export interface StrategyOptions {
  steps?: string;
  promoteAfter?: string;
  manual?: boolean;
  inPlace?: boolean;
  startFirst?: boolean;
  parallel?: string;
  progressDeadline?: string;
  onFailure?: string;
}

/** The change of `berth rollout start`. Throws a usage error unless there is exactly one. */
export function toChange({
  set = [],
  toRevision,
}: {
  set?: readonly string[];
  toRevision?: string;
}): Record<string, unknown> {
  if (set.length > 0 === (toRevision !== undefined))
    throw usageError("Set either --set or --to-revision.", "Example: --set app=menu:43");
  if (toRevision !== undefined) return { toRevision: parseCount("--to-revision", toRevision) };
  const containers: Record<string, { image: string }> = {};
  for (const text of set) {
    const [, name, image] = /^([^=]+)=(.+)$/.exec(text) ?? [];
    if (name === undefined || image === undefined)
      throw usageError(`--set ${text} is not a container and its image, such as app=menu:43.`);
    if (Object.hasOwn(containers, name)) throw usageError(`--set names container ${name} twice.`);
    containers[name] = { image };
  }
  return { containers };
}

/** Undefined without options: the API then uses the strategy of the service. */
export function toStrategy(options: StrategyOptions): Record<string, unknown> | undefined {
  const { inPlace, startFirst, parallel, progressDeadline, onFailure } = options;
  if (inPlace === true && startFirst === true)
    throw usageError("Set at most one of --in-place and --start-first.");
  const steps = toSteps(options);
  const strategy = {
    ...(inPlace === true ? { method: "in-place" } : {}),
    ...(startFirst === true ? { method: "start-first" } : {}),
    ...(steps === undefined ? {} : { steps }),
    ...(parallel === undefined ? {} : { parallel: toParallel(parallel) }),
    ...(progressDeadline === undefined
      ? {}
      : { progressDeadlineSeconds: parseTimeout(progressDeadline) }),
    ...(onFailure === undefined ? {} : { onFailure }),
  };
  return Object.keys(strategy).length === 0 ? undefined : strategy;
}

function toSteps({ steps, promoteAfter, manual }: StrategyOptions) {
  if (promoteAfter !== undefined && manual === true)
    throw usageError("Set at most one of --promote-after and --manual.");
  if (steps === undefined && promoteAfter === undefined && manual !== true) return undefined;
  const selections = (steps ?? "1,100%").split(",").map((text) => toSelection("--steps", text));
  const promote =
    promoteAfter === undefined
      ? manual === true
        ? "manual"
        : "auto"
      : { afterSeconds: parseTimeout(promoteAfter) };
  // No step follows one with all sets.
  return selections.map((select, place) =>
    place === selections.length - 1 && "percent" in select && select.percent === 100
      ? { select }
      : { select, promote },
  );
}

/** Parses "3" or "50%". Throws a usage error for anything else. */
export function toSelection(option: string, text: string): RolloutSelection {
  const percent = toPercent(text);
  if (percent !== undefined) return { percent };
  return { count: parseCount(option, text) };
}

function toPercent(text: string): number | undefined {
  const digits = /^(\d{1,3})%$/.exec(text)?.[1];
  const percent = Number(digits);
  return digits !== undefined && percent >= 1 && percent <= 100 ? percent : undefined;
}

function toParallel(text: string): number | string {
  const percent = toPercent(text);
  return percent === undefined ? parseCount("--parallel", text) : `${percent}%`;
}

function parseCount(option: string, text: string): number {
  const count = Number(text);
  if (/^\d{1,9}$/.test(text) && count >= 1) return count;
  const also = option === "--to-revision" ? "" : ", or a percentage such as 25%";
  throw usageError(`${option} ${text}: expected a number such as 3${also}.`);
}
