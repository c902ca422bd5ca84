import type {
  PersistedCounts,
  PersistedHistory,
  PersistedRun,
  PersistedRuns,
} from "../ports/state-store.ts";
import type { ContainerTemplate, SetTemplate } from "../../contracts/api/set-template.ts";
import { ensureContainerHistory } from "./container-history.ts";
import { type ContainerRun, restoreRun } from "./container-run.ts";
import type { OverRootfs, SetHistory } from "./set-history.ts";

/** Returns undefined if there is nothing to persist, as for most sets. */
export function toPersistedHistory(
  history: SetHistory,
  template: SetTemplate,
): PersistedHistory | undefined {
  const { overRootfs, containers } = history;
  const counts: Record<string, PersistedCounts> = {};
  for (const [name, { restarts, oomKills, run }] of containers) {
    if (restarts + oomKills === 0) continue;
    counts[name] = {
      restarts,
      oomKills,
      oomKillsInRun: run?.oomKills ?? 0,
      lastCountedRun: run?.id,
    };
  }
  const runs = toPersistedRuns(history, template);
  const persisted = {
    ...(overRootfs?.isStopped ? { stopped: toPersistedStop(overRootfs) } : {}),
    ...(Object.keys(counts).length > 0 ? { counts } : {}),
    ...(runs ? { runs } : {}),
  };
  return Object.keys(persisted).length > 0 ? persisted : undefined;
}

/** True if one of the containers is one-shot: it may run to completion. */
export function startsOneShot(template: SetTemplate, names: readonly string[]): boolean {
  return template.containers.some(
    (container) => isOneShot(container) && names.includes(container.name),
  );
}

function isOneShot({ options }: ContainerTemplate): boolean {
  return options.restart.on !== "always";
}

function toPersistedStop({ specKey, usedBytes, reason }: OverRootfs): PersistedHistory["stopped"] {
  return { specKey, usedBytes, reason };
}

function toPersistedRuns(
  { infraRun, containers }: SetHistory,
  template: SetTemplate,
): PersistedRuns | undefined {
  const oneShots = template.containers.filter(isOneShot);
  if (infraRun === undefined || oneShots.length === 0) return undefined;
  const lastRuns = oneShots.flatMap(({ name }) => {
    const run = containers.get(name)?.run;
    return run && run.infraRun !== undefined ? [[name, toPersistedRun(run)] as const] : [];
  });
  return { infraRun, containers: Object.fromEntries(lastRuns) };
}

function toPersistedRun({ id, infraRun, specHash, exit }: ContainerRun): PersistedRun {
  return {
    run: id,
    specHash,
    ...(typeof infraRun === "string" ? { infraRun } : {}),
    ...(exit ? { exit } : {}),
  };
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
  history.infraRun = persisted?.runs?.infraRun;
  for (const [name, run] of Object.entries(persisted?.runs?.containers ?? {}))
    ensureContainerHistory(history, name).run = restoreRun(run, run.infraRun ?? null);
  for (const [name, counts] of Object.entries(persisted?.counts ?? {})) {
    const { restarts, oomKills, oomKillsInRun, lastCountedRun } = counts;
    const known = ensureContainerHistory(history, name);
    Object.assign(known, { restarts, oomKills });
    if (lastCountedRun === undefined) continue;
    known.run ??= restoreRun({ run: lastCountedRun, specHash: "" }, undefined);
    if (known.run.id === lastCountedRun) known.run.oomKills = oomKillsInRun;
  }
  if (persisted?.stopped && stops) history.overRootfs = { ...persisted.stopped, isStopped: true };
}
