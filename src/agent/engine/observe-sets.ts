import { isInfra } from "../model/container-names.ts";
import type {
  Limits,
  ObservedContainer,
  ObservedIo,
  ObservedLocalSet,
} from "../model/local-set.ts";
import type { ContainerDetails, ListedContainer } from "../ports/container-port.ts";
import type { EngineContext } from "./engine-context.ts";
import { observeIo } from "./limit-io.ts";
import { isDetached } from "./detached-containers.ts";
import { markIfMisplaced } from "./misplaced-containers.ts";

/**
 * Observes every set with a container, a cgroup or a live volume on this host. A container that
 * hangs in Docker makes only its own set unseen.
 */
export async function observeSets(
  context: EngineContext,
  signal: AbortSignal,
  onUnseen: (setId: string, error: unknown) => void = rethrow,
): Promise<ObservedLocalSet[]> {
  const { cgroups } = context;
  // Read cgroups and volumes first: the removal of a set deletes its containers before these.
  const remains = [...(await cgroups.list()), ...((await context.volumes?.reload(signal)) ?? [])];
  const bySet = new Map<string, ListedContainer[]>(remains.map((setId) => [setId, []]));
  for (const container of await context.containers.list({ phase: "observe" }, signal)) {
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
  context: EngineContext,
  setId: string,
  signal: AbortSignal,
): Promise<ObservedLocalSet | undefined> {
  const { cgroups } = context;
  const containers = await context.containers.list({ setId, phase: "observe" }, signal);
  if (containers.length === 0) {
    const volumeBytes = await context.volumes?.sizeOf(setId, signal);
    if (volumeBytes === undefined && !(await cgroups.list()).includes(setId)) return undefined;
  }
  return toObservedSet(context, setId, containers, signal);
}

async function toObservedSet(
  context: EngineContext,
  setId: string,
  listed: readonly ListedContainer[],
  signal: AbortSignal,
): Promise<ObservedLocalSet> {
  const withDetails = await Promise.all(
    listed.map((line) => describeContainer(context, line, signal)),
  );
  const unseen = withDetails.filter(({ error }) => error !== undefined);
  if (unseen.length > 0 && unseen.length === withDetails.length) throw unseen[0]?.error;
  const infra = withDetails.find(({ container }) => isInfra(container));
  const observed = withDetails
    .filter(({ container }) => !isInfra(container))
    .map((described) => {
      const { details } = described;
      const seen = toObserved(described);
      const isDead = seen.state === "running" && isDetached(details, infra?.details);
      return isDead ? { ...seen, state: "dead" as const } : seen;
    });
  return {
    setId,
    limits: await context.cgroups.read(setId),
    volumeBytes: await context.volumes?.sizeOf(setId, signal),
    generation: infra?.container.generation,
    infra: infra && toObserved(infra),
    infraRun: infra?.details && toInfraRun(infra.container, infra.details),
    containers: observed,
    address: infra?.container.dockerState === "running" ? infra.container.address : undefined,
  };
}

interface DescribedContainer {
  container: ListedContainer;
  /** Undefined if the container no longer exists, or is unseen. */
  details: (ContainerDetails & { io: ObservedIo | undefined }) | undefined;
  /** The error of an unseen container. */
  error?: unknown;
}

/** A container that Docker does not describe now makes no other container of its set unseen. */
async function describeContainer(
  context: EngineContext,
  line: ListedContainer,
  signal: AbortSignal,
): Promise<DescribedContainer> {
  try {
    const details = await context.containers.inspect(line, signal);
    if (!details) return { container: line, details: undefined };
    const { dockerState, address } = details;
    const placed = await markIfMisplaced(context, line, details);
    const container = { ...placed, dockerState, address };
    const [limits, io] = await Promise.all([
      readLimits(context, container, details),
      observeIo(context, container, details),
    ]);
    return { container, details: { ...details, limits, io } };
  } catch (error) {
    signal.throwIfAborted();
    const { setId, name } = line;
    context.log.warn({ err: error, setId, container: name }, "cannot inspect a container");
    return { container: line, details: undefined, error };
  }
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
  { cgroups }: EngineContext,
  { setId, dockerId, dockerState }: ListedContainer,
  details: ContainerDetails,
): Promise<Limits> {
  if (dockerState !== "running") return details.limits;
  return (await cgroups.readContainer(setId, dockerId)) ?? details.limits;
}

function toObserved({ container, details, error }: DescribedContainer): ObservedContainer {
  const isUnknown = error !== undefined;
  return {
    name: container.name,
    dockerId: container.dockerId,
    ...(isUnknown ? { isUnknown } : {}),
    state: details || isUnknown ? toState(container.dockerState) : "dead",
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
