import { AgentError, IMAGE_MISSING } from "../base/agent-error.ts";
import { isInfra } from "../model/container-names.ts";
import type { LocalSetSpec } from "../model/local-set.ts";
import { isOutdated } from "../model/spec-hash.ts";
import type { ListedContainer } from "../ports/container-port.ts";
import type { EngineContext } from "./engine-context.ts";
import { markMisplaced } from "./misplaced-containers.ts";
import { findMissingImage } from "./set-images.ts";
import { removeContainers } from "./stop-containers.ts";

/**
 * Removes the containers of a set that must be replaced, and returns the others. Rejects with
 * IMAGE_MISSING, and removes none, if the daemon lacks an image that the set needs.
 */
export async function removeOutdated(
  context: EngineContext,
  { set, completed }: { set: LocalSetSpec; completed: readonly string[] },
  listed: readonly ListedContainer[],
  signal: AbortSignal,
): Promise<ListedContainer[]> {
  const existing = await markMisplaced(context, listed, signal);
  const stale = findStale(set, existing);
  if (stale.length === 0) return existing;
  // Without its image a replaced container would be down during the pull.
  const missing = await findMissingImage(context, { set, completed }, signal);
  if (missing !== undefined) throw toImageMissing(missing);
  await removeContainers(context, stale, { phase: "prepare" }, signal);
  return existing.filter((container) => !stale.includes(container));
}

/**
 * Finds the containers to replace. They are outdated, not in the template, broken, or joined to a
 * deleted infra container. If the infra container is outdated, all are: it owns the namespaces that
 * the others joined.
 */
function findStale(set: LocalSetSpec, existing: readonly ListedContainer[]): ListedContainer[] {
  const infra = existing.find(isInfra);
  if (!infra || isStale(set, infra)) return [...existing];
  return existing.filter(
    (container) =>
      !isInfra(container) && (isStale(set, container) || container.infraId !== infra.dockerId),
  );
}

function isStale(set: LocalSetSpec, container: ListedContainer): boolean {
  const isWanted =
    isInfra(container) || set.template.containers.some(({ name }) => name === container.name);
  return (
    !isWanted ||
    container.dockerState === "dead" ||
    container.dockerState === "removing" ||
    isOutdated(set, container.name, container)
  );
}

function toImageMissing(image: string): AgentError {
  const options = { phase: "image" as const, temporary: true };
  return new AgentError(IMAGE_MISSING, `image "${image}" is not on this host`, options);
}
