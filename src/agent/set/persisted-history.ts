import type { PersistedHistory, PersistedRuns, PersistedCounts } from "../ports/state-store.ts";
import type { ContainerTemplate, SetTemplate } from "../../contracts/api/set-template.ts";
import { changeContainer } from "./container-history.ts";
import type { OverRootfs, SetHistory } from "./set-history.ts";

/** Returns undefined if there is nothing to persist, as for most sets. */
export function toPersistedHistory(
  history: SetHistory,
  template: SetTemplate,
): PersistedHistory | undefined {
  const { overRootfs, containers } = history;
  const counts: Record<string, PersistedCounts> = {};
  for (const [name, { restarts, oomKills, oomKillsInRun, lastCountedRun }] of containers) {
    if (restarts + oomKills > 0)
      counts[name] = { restarts, oomKills, oomKillsInRun, lastCountedRun };
  }
  const runs = toPersistedRuns(history, template);
  const persisted = {
    ...(overRootfs?.isStopped ? { stopped: toPersistedStop(overRootfs) } : {}),
    ...(Object.keys(counts).length > 0 ? { counts } : {}),
    ...(runs ? { runs } : {}),
  };
  return Object.keys(persisted).length > 0 ? persisted : undefined;
}

/** True if one of the containers may run to completion. */
export function startsJob(template: SetTemplate, names: readonly string[]): boolean {
  return template.containers.some(
    (container) => isJob(container) && names.includes(container.name),
  );
}

function isJob({ options }: ContainerTemplate): boolean {
  return options.restart.on !== "always";
}

function toPersistedStop({ specKey, usedBytes, reason }: OverRootfs): PersistedHistory["stopped"] {
  return { specKey, usedBytes, reason };
}

function toPersistedRuns(
  { infraRun, containers }: SetHistory,
  template: SetTemplate,
): PersistedRuns | undefined {
  const jobs = template.containers.filter(isJob);
  if (infraRun === undefined || jobs.length === 0) return undefined;
  const lastRuns = jobs.flatMap(({ name }) => {
    const lastRun = containers.get(name)?.lastRun;
    return lastRun ? [[name, lastRun] as const] : [];
  });
  return { infraRun, containers: Object.fromEntries(lastRuns) };
}

/**
 * Restores a new history from its persisted part. `stops`: the agent's policy is to stop sets that
 * exceed their `rootfs`.
 */
export function restoreHistory(
  history: SetHistory,
  persisted: PersistedHistory | undefined,
  stops: boolean,
): void {
  for (const [name, counts] of Object.entries(persisted?.counts ?? {})) {
    Object.assign(changeContainer(history, name), counts);
  }
  history.infraRun = persisted?.runs?.infraRun;
  for (const [name, lastRun] of Object.entries(persisted?.runs?.containers ?? {}))
    changeContainer(history, name).lastRun = { ...lastRun };
  if (persisted?.stopped && stops) history.overRootfs = { ...persisted.stopped, isStopped: true };
}
