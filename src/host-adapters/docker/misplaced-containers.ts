import type { SetCgroups } from "../cgroups/set-cgroups.ts";
import type { ContainerDetails } from "./container-details.ts";
import type { ListedContainer } from "./container-labels.ts";
import type { DockerContext } from "./docker-context.ts";

/** The hash of no specification, so that a container with it is outdated. */
const outdatedHash = "outside-the-cgroup-of-its-set";

/**
 * Marks containers as outdated that are not in the cgroup of their set, because the daemon's cgroup
 * driver has changed. Docker cannot start such a container, or the set's limits do not apply to it.
 */
export async function markMisplaced(
  context: DockerContext,
  containers: readonly ListedContainer[],
  signal: AbortSignal,
): Promise<ListedContainer[]> {
  const { cgroups } = await context.environment();
  return Promise.all(
    containers.map(async (container) =>
      markIfMisplaced(cgroups, container, await context.details.get(container, signal)),
    ),
  );
}

export function markIfMisplaced(
  cgroups: SetCgroups,
  container: ListedContainer,
  details: ContainerDetails | undefined,
): ListedContainer {
  const isMisplaced = details && details.cgroupParent !== cgroups.parentOf(container.setId);
  return isMisplaced ? { ...container, specHash: outdatedHash } : container;
}
