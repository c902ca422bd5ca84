import type {
  Limits,
  ObservedContainer,
  ObservedIo,
  ObservedLocalSet,
} from "../../agent/model/local-set.ts";
import { isInfra, type ListedContainer } from "./container-labels.ts";
import type { ContainerDetails } from "./container-details.ts";
import { hasOtherNetwork } from "./container-process.ts";
import { observeIo } from "./container-io.ts";
import type { DockerContext } from "./docker-context.ts";
import { listContainers } from "./list-containers.ts";
import { markIfMisplaced } from "./misplaced-containers.ts";

/**
 * Observes every set with a container, a cgroup or a live volume on this host. A container that
 * hangs in Docker makes only its own set unseen.
 */
export async function observeSets(
  context: DockerContext,
  signal: AbortSignal,
  onUnseen: (setId: string, error: unknown) => void = rethrow,
): Promise<ObservedLocalSet[]> {
  const { cgroups } = await context.environment();
  // Read cgroups and volumes first: the removal of a set deletes its containers before these.
  const remains = [...(await cgroups.list()), ...((await context.volumes?.reload(signal)) ?? [])];
  const bySet = new Map<string, ListedContainer[]>(remains.map((setId) => [setId, []]));
  for (const container of await listContainers(context, { phase: "observe" }, signal)) {
    const ofSet = bySet.get(container.setId);
    if (ofSet) ofSet.push(container);
    else bySet.set(container.setId, [container]);
  }
  const observed = await Promise.all(
    [...bySet].map(async ([setId, containers]) => {
      try {
        return await toObservedSet(context, setId, containers, signal);
      } catch (error) {
        signal.throwIfAborted();
        onUnseen(setId, error);
        return undefined;
      }
    }),
  );
  return observed.filter((set) => set !== undefined);
}

function rethrow(_setId: string, error: unknown): never {
  throw error;
}

export async function observeSet(
  context: DockerContext,
  setId: string,
  signal: AbortSignal,
): Promise<ObservedLocalSet | undefined> {
  const { cgroups } = await context.environment();
  const containers = await listContainers(context, { setId, phase: "observe" }, signal);
  if (containers.length === 0) {
    const volumeBytes = await context.volumes?.sizeOf(setId, signal);
    if (volumeBytes === undefined && !(await cgroups.list()).includes(setId)) return undefined;
  }
  return toObservedSet(context, setId, containers, signal);
}

/**
 * True for a business container in a different network namespace than its infra container. It began
 * in a previous run of infra, and is unreachable. Start times do not show that, because the
 * wall clock may have been stepped between them.
 */
export function hasLostNetwork(
  details: ContainerDetails | undefined,
  infra: ContainerDetails | undefined,
): boolean {
  if (!details?.process || !infra?.process) return false;
  return hasOtherNetwork(details.process, infra.process);
}

async function toObservedSet(
  context: DockerContext,
  setId: string,
  listed: readonly ListedContainer[],
  signal: AbortSignal,
): Promise<ObservedLocalSet> {
  const { cgroups } = await context.environment();
  const withDetails = await Promise.all(
    listed.map(async (line) => {
      const details = await context.details.get(line, signal);
      if (!details) return { container: line, details };
      const { dockerState, address } = details;
      const placed = markIfMisplaced(cgroups, line, details);
      const container = { ...placed, dockerState, address };
      const [limits, io] = await Promise.all([
        readLimits(context, container, details),
        observeIo(context, container, details),
      ]);
      return { container, details: { ...details, limits, io } };
    }),
  );
  const infra = withDetails.find(({ container }) => isInfra(container));
  const observed = withDetails
    .filter(({ container }) => !isInfra(container))
    .map(({ container, details }) => {
      const seen = toObserved(container, details);
      const isLost = seen.state === "running" && hasLostNetwork(details, infra?.details);
      return isLost ? { ...seen, state: "dead" as const } : seen;
    });
  return {
    setId,
    limits: await cgroups.read(setId),
    volumeBytes: await context.volumes?.sizeOf(setId, signal),
    generation: infra?.container.generation,
    infra: infra ? toObserved(infra.container, infra.details) : undefined,
    infraRun: infra?.details && toInfraRun(infra.container, infra.details),
    containers: observed,
    address: infra?.container.dockerState === "running" ? infra.container.address : undefined,
  };
}

/** A process that the agent cannot see is identified by Docker's start time. */
function toInfraRun(
  { dockerId, dockerState }: ListedContainer,
  { process, startedAt }: ContainerDetails,
): string | undefined {
  return dockerState === "running" ? (process?.id ?? `${dockerId}@${startedAt}`) : undefined;
}

/** The kernel's limits while the container runs, else those that Docker will apply. */
export async function readLimits(
  context: DockerContext,
  { setId, dockerId, dockerState }: ListedContainer,
  details: ContainerDetails,
): Promise<Limits> {
  if (dockerState !== "running") return details.limits;
  const { cgroups } = await context.environment();
  return (await cgroups.readContainer(setId, dockerId)) ?? details.limits;
}

function toObserved(
  container: ListedContainer,
  details: (ContainerDetails & { io: ObservedIo | undefined }) | undefined,
): ObservedContainer {
  return {
    name: container.name,
    dockerId: container.dockerId,
    state: details ? toState(container.dockerState) : "dead",
    specHash: container.specHash,
    restartGeneration: container.restartGeneration,
    stopSignalSource: container.stopSignalSource,
    exitCode: details?.exitCode,
    startFailure: details?.startFailure,
    oomKilled: details?.oomKilled ?? false,
    oomKills: details?.oomKills ?? 0,
    memoryPeakBytes: details?.memoryPeakBytes,
    startedAt: details?.startedAt,
    finishedAt: details?.finishedAt,
    limits: details?.limits,
    io: details?.io,
  };
}

function toState(dockerState: string): ObservedContainer["state"] {
  switch (dockerState) {
    case "created":
    case "running":
    case "restarting":
    case "exited":
      return dockerState;
    case "paused": // its processes exist, and the user who paused it will resume it
      return "running";
    default: // dead, removing
      return "dead";
  }
}
