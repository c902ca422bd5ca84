import type { ContainerDetails, ListedContainer } from "../ports/container-port.ts";
import type { EngineContext } from "./engine-context.ts";

/** The hash of no specification, so that a container with it is outdated. */
const outdatedHash = "outside-the-cgroup-of-its-set";

/**
 * Marks containers as outdated that are not in the cgroup of their set, because the daemon's cgroup
 * driver has changed. Docker cannot start such a container, or the set's limits do not apply to it.
 */
export async function markMisplaced(
  context: EngineContext,
  containers: readonly ListedContainer[],
  signal: AbortSignal,
): Promise<ListedContainer[]> {
  return Promise.all(
    containers.map(async (container) => {
      try {
        const details = await context.containers.inspect(container, signal);
        return await markIfMisplaced(context, container, details);
      } catch (error) {
        // Docker does not describe it now. That must not delay the other containers.
        signal.throwIfAborted();
        context.log.warn(
          { err: error, setId: container.setId, container: container.name },
          "cannot inspect a container",
        );
        return container;
      }
    }),
  );
}

export async function markIfMisplaced(
  { cgroups }: EngineContext,
  container: ListedContainer,
  details: ContainerDetails | undefined,
): Promise<ListedContainer> {
  const cgroupParent = await cgroups.parentOf(container.setId);
  const isMisplaced = details && details.cgroupParent !== cgroupParent;
  return isMisplaced ? { ...container, specHash: outdatedHash } : container;
}
