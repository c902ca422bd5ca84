import type { ContainerTemplate } from "../../contracts/api/set-template.ts";
import type { ObservedContainer, ObservedLocalSet } from "../model/local-set.ts";
import type { HashedSetSpec } from "../model/outdated.ts";
import { type ContainerHistory, readContainerHistory } from "./container-history.ts";
import { getRunId, parseRunId } from "./container-run.ts";

interface Histories {
  infraRun: string | undefined;
  containers: Map<string, ContainerHistory>;
}

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
  set: HashedSetSpec,
  observed: ObservedLocalSet,
  history: Histories,
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
  set: HashedSetSpec,
  template: ContainerTemplate,
  history: Histories,
): ObservedContainer | undefined {
  const { name } = template;
  const { run } = readContainerHistory(history, name);
  if (!run?.exit || run.isFailedStart) return undefined;
  if (typeof run.infraRun !== "string" || run.infraRun !== history.infraRun) return undefined;
  if (run.specHash !== set.specHashes[name] || !isFinalExit(template, run.exit.code))
    return undefined;
  return {
    name,
    ...parseRunId(run.id),
    state: "exited",
    specHash: run.specHash,
    restartGeneration: set.restartGeneration,
    exitCode: run.exit.code,
    oomKilled: false,
    oomKills: 0,
    finishedAt: run.exit.finishedAt,
  };
}

/** Completed containers that do not exist, so that a preparation need not create them. */
export function listDeletedCompleted(
  set: HashedSetSpec,
  observed: ObservedLocalSet | undefined,
  history: Histories,
): string[] {
  if (observed?.infra?.state !== "running") return [];
  const existing = new Set(observed.containers.map(({ name }) => name));
  const { containers } = recallCompleted(set, observed, history);
  return containers.flatMap(({ name }) => (existing.has(name) ? [] : [name]));
}
