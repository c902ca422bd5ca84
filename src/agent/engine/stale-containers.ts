import { INFRA_CONTAINER, isInfra } from "../model/container-names.ts";
import type { LocalSetSpec } from "../model/local-set.ts";
import { isContainerOutdated } from "../model/spec-hash.ts";
import type { ListedContainer } from "../ports/container-port.ts";
import type { EngineContext } from "./engine-context.ts";
import { requireImages } from "./set-images.ts";
import { removeContainers } from "./stop-containers.ts";

/**
 * Removes the containers of a set that no longer belong to it, and returns the others. Rejects with
 * IMAGE_MISSING, and removes none, if infra runs and the daemon lacks an image of theirs.
 */
export async function removeStale(
  context: EngineContext,
  { set, completed }: { set: LocalSetSpec; completed: readonly string[] },
  existing: readonly ListedContainer[],
  signal: AbortSignal,
): Promise<ListedContainer[]> {
  const stale = findStale(set, existing);
  if (stale.length === 0) return [...existing];
  // Without its image a replaced container would be down during the pull. Without infra it is down
  // anyway.
  if (existing.find(isInfra)?.dockerState === "running") {
    const replaced = stale.map(({ name }) => name).filter((name) => !completed.includes(name));
    await requireImages(context, { set, names: replaced }, signal);
  }
  const address = existing.find(isInfra)?.address;
  await removeContainers(context, stale, { set, address, phase: "prepare" }, signal);
  return existing.filter((container) => !stale.includes(container));
}

/**
 * Finds the containers that the template lacks, and those that joined a deleted infra container. If
 * the infra container must be replaced, all are stale: it owns the namespaces that the others
 * joined.
 */
function findStale(set: LocalSetSpec, existing: readonly ListedContainer[]): ListedContainer[] {
  const infra = existing.find(isInfra);
  if (!infra || mustReplace(set, infra)) return [...existing];
  const names = new Set([INFRA_CONTAINER, ...set.template.containers.map(({ name }) => name)]);
  return existing.filter(
    (container) =>
      !names.has(container.name) || (!isInfra(container) && container.infraId !== infra.dockerId),
  );
}

/** The names of the containers of the template that `mustReplace` is true for. */
export function listOutdated(set: LocalSetSpec, existing: readonly ListedContainer[]): string[] {
  return set.template.containers.flatMap(({ name }) => {
    const container = existing.find((candidate) => candidate.name === name);
    return container && mustReplace(set, container) ? [name] : [];
  });
}

/** True if a container of the template is outdated, or if Docker cannot start it again. */
export function mustReplace(set: LocalSetSpec, container: ListedContainer): boolean {
  return (
    container.dockerState === "dead" ||
    container.dockerState === "removing" ||
    isContainerOutdated(set, container.name, container)
  );
}
