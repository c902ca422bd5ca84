import type { ContainerTemplate } from "../../contracts/api/set-template.ts";
import { containerHistory, getRunId } from "./container-history.ts";
import type { LocalSetSpec, ObservedContainer, ObservedLocalSet } from "../model/local-set.ts";
import type { SetHistory } from "./set-history.ts";
import { specHash } from "../model/spec-hash.ts";

/** True if the restart policy does not restart a container after this exit. */
export function isFinalExit(template: ContainerTemplate, exitCode: number | undefined): boolean {
  const { on } = template.options.restart;
  return on === "never" || (on === "failure" && exitCode === 0);
}

/**
 * Returns the observed set with the containers that have completed in this run of infra and that
 * someone has deleted since, for example by `docker system prune`. They need not exist again: a
 * migration must not run twice. A container that was created again and has not started counts as
 * deleted.
 */
export function recallCompleted(
  set: LocalSetSpec,
  observed: ObservedLocalSet,
  history: SetHistory,
): ObservedLocalSet {
  const recalled = set.template.containers.flatMap((template) => {
    const seen = observed.containers.find(({ name }) => name === template.name);
    if (seen && getRunId(seen) !== undefined) return [];
    return recallContainer(set, template, history) ?? [];
  });
  if (recalled.length === 0) return observed;
  const names = new Set(recalled.map(({ name }) => name));
  const others = observed.containers.filter(({ name }) => !names.has(name));
  return { ...observed, containers: [...others, ...recalled] };
}

function recallContainer(
  set: LocalSetSpec,
  template: ContainerTemplate,
  history: SetHistory,
): ObservedContainer | undefined {
  const { name } = template;
  const { lastRun, failedRun } = containerHistory(history, name);
  if (!lastRun?.exit || lastRun.run === failedRun) return undefined;
  if (lastRun.infraRun === undefined || lastRun.infraRun !== history.infraRun) return undefined;
  const hash = specHash(set, name);
  if (lastRun.specHash !== hash || !isFinalExit(template, lastRun.exit.code)) return undefined;
  const [dockerId = "", startedAt = ""] = lastRun.run.split("@");
  return {
    name,
    dockerId,
    state: "exited",
    specHash: hash,
    restartGeneration: set.restartGeneration,
    exitCode: lastRun.exit.code,
    oomKilled: false,
    oomKills: 0,
    startedAt,
    finishedAt: lastRun.exit.finishedAt,
  };
}

/** Completed containers that do not exist, so that a preparation need not create them. */
export function listDeletedCompleted(
  set: LocalSetSpec,
  observed: ObservedLocalSet | undefined,
  history: SetHistory,
): string[] {
  if (observed?.infra?.state !== "running") return [];
  const existing = new Set(observed.containers.map(({ name }) => name));
  const { containers } = recallCompleted(set, observed, history);
  return containers.flatMap(({ name }) => (existing.has(name) ? [] : [name]));
}
