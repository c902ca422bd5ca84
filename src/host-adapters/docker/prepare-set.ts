import type Docker from "dockerode";
import { AgentError, IMAGE_MISSING } from "../../agent/base/agent-error.ts";
import { INFRA_CONTAINER } from "../../agent/model/container-names.ts";
import type { LocalSetSpec } from "../../agent/model/local-set.ts";
import { isOutdated } from "../../agent/model/spec-hash.ts";
import { callDocker, dockerMessage, dockerStatus, settleAll } from "./call-docker.ts";
import { isInfra, labels, type ListedContainer } from "./container-labels.ts";
import { businessContainer, infraContainer } from "./container-specs.ts";
import type { DockerContext, DockerEnvironment } from "./docker-context.ts";
import { setLimits, widenedLimits } from "../../agent/model/set-limits.ts";
import { listContainers } from "./list-containers.ts";
import { markMisplaced } from "./misplaced-containers.ts";
import { hasLostNetwork } from "./observe-sets.ts";
import { findMissingImage } from "./set-images.ts";
import { applyLimits } from "./resize-set.ts";
import { startInfra } from "./start-infra.ts";
import { removeContainers, stopInOrder } from "./stop-containers.ts";

const createTimeoutMs = 60_000;

/**
 * SetPort.prepare on Docker. It lists the containers (one call), removes outdated ones, stops those
 * without a network, and creates missing ones:
 *
 *     volume  ----------\
 *     cgroup  -----------+
 *     create infra ------+--> start infra
 *                 \--> create the business containers concurrently
 *
 * A container can be created as soon as the owner of its network exists, and its volume must be
 * mounted only at its start. Any step may be the last one before a crash: the next call finds its
 * result by label.
 *
 * Running containers retain their limits, and the set's cgroup is at most widened. Narrowing it
 * can fail while containers have their previous limits or use more. That must not block a
 * preparation, so resizeSet does it.
 */
export async function prepareSet(
  context: DockerContext,
  { set, completed }: { set: LocalSetSpec; completed: readonly string[] },
  signal: AbortSignal,
): Promise<void> {
  const dataPath = findDataPath(context, set);
  const environment = await context.environment();
  const listed = await listContainers(context, { setId: set.setId, phase: "prepare" }, signal);
  const existing = await markMisplaced(context, listed, signal);
  const stale = findStale(set, existing);
  if (stale.length > 0) {
    // Without its image a replaced container would be down during the pull.
    const missing = await findMissingImage(context, { set, completed }, signal);
    if (missing !== undefined) throw toImageMissing(missing);
    await removeContainers(context, stale, { phase: "prepare" }, signal);
  }
  const current = await stopCutOff(
    context,
    existing.filter((container) => !stale.includes(container)),
    signal,
  );

  const mounted = dataPath === undefined ? undefined : context.volumes?.ensure(set, signal);
  // If another part fails, wait for the volume, so that the next call does not overlap with it.
  await settleAll([
    Promise.resolve(mounted),
    prepareContainers(context, set, { environment, dataPath, current, completed, mounted }, signal),
  ]);
}

async function prepareContainers(
  context: DockerContext,
  set: LocalSetSpec,
  {
    environment,
    dataPath,
    current,
    completed,
    mounted,
  }: {
    environment: DockerEnvironment;
    dataPath: string | undefined;
    current: readonly ListedContainer[];
    completed: readonly string[];
    mounted: Promise<void> | undefined;
  },
  signal: AbortSignal,
): Promise<void> {
  const limited = widenCgroup(environment, set, signal);
  const currentInfra = current.find(isInfra);
  const created = currentInfra
    ? Promise.resolve(currentInfra.dockerId)
    : createInfra(context, environment, { set, dataPath }, signal);
  await settleAll([limited, created]);
  const infraId = await created;
  const startWhenMounted = async () => {
    await mounted;
    const isRunning = currentInfra?.dockerState === "running";
    await startInfra(context, set, { infraId, isRunning }, signal);
  };
  await settleAll([
    startWhenMounted(),
    ...set.template.containers.map(async ({ name }) => {
      const existing = current.find((candidate) => candidate.name === name);
      if (!existing && completed.includes(name)) return;
      if (!existing) {
        await createBusiness(context, environment, { set, name, infraId, dataPath }, signal);
      } else if (isDown(existing)) {
        await applyLimits(context, set, existing, signal);
      }
    }),
  ]);
}

async function widenCgroup(
  { cgroups }: DockerEnvironment,
  set: LocalSetSpec,
  signal: AbortSignal,
): Promise<void> {
  const seen = await cgroups.read(set.setId);
  await cgroups.ensure(set.setId, widenedLimits(seen, setLimits(set.template)), signal);
}

/** With its previous limits, a container might not start in a recreated cgroup. */
function isDown({ dockerState }: ListedContainer): boolean {
  return dockerState === "created" || dockerState === "exited";
}

/** The host's path of the set's data once its volume is mounted; undefined without a volume. */
function findDataPath({ volumes }: DockerContext, set: LocalSetSpec): string | undefined {
  if (set.template.volume === null) return undefined;
  if (volumes) return volumes.getDataPath(set);
  throw new AgentError("not-supported", "this host has no volumes", {
    phase: "prepare",
    temporary: false,
  });
}

/**
 * Finds the containers to replace. They are outdated, not in the template, broken, or joined to a
 * deleted infra container. If the infra container is outdated, all are: it owns the namespaces that
 * the others joined.
 */
function findStale(set: LocalSetSpec, existing: readonly ListedContainer[]): ListedContainer[] {
  const infra = existing.find(isInfra);
  if (!infra || isStale(set, infra)) return [...existing];
  const networkMode = `container:${infra.dockerId}`;
  return existing.filter(
    (container) =>
      !isInfra(container) && (isStale(set, container) || container.networkMode !== networkMode),
  );
}

/**
 * Stops the running containers that lost the network of an earlier run of infra, and returns all
 * containers with their new states. A start joins them to the current network. So their logs, root
 * file systems and anonymous volumes survive the death of infra.
 */
async function stopCutOff(
  context: DockerContext,
  existing: readonly ListedContainer[],
  signal: AbortSignal,
): Promise<ListedContainer[]> {
  const infra = existing.find(isInfra);
  const isInfraUp = infra?.dockerState === "running";
  const infraDetails = infra && isInfraUp ? await context.details.get(infra, signal) : undefined;
  const verdicts = await Promise.all(
    existing.map(async (container) => {
      if (isInfra(container) || container.dockerState !== "running") return false;
      return (
        !isInfraUp || hasLostNetwork(await context.details.get(container, signal), infraDetails)
      );
    }),
  );
  const cutOff = existing.filter((_container, position) => verdicts[position]);
  await stopInOrder(context, cutOff, signal);
  return existing.map((container) =>
    cutOff.includes(container) ? { ...container, dockerState: "exited" } : container,
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

async function createInfra(
  context: DockerContext,
  { cgroups, canPrivilege }: DockerEnvironment,
  { set, dataPath }: { set: LocalSetSpec; dataPath: string | undefined },
  signal: AbortSignal,
): Promise<string> {
  const specFor = (image: string) =>
    infraContainer(context.hostId, set, {
      image,
      cgroupParent: cgroups.parentOf(set.setId),
      canPrivilege,
      dataPath,
    });
  try {
    return await createContainer(context, set, specFor(await context.infraImage()), signal);
  } catch (error) {
    if (!isImageMissing(error)) throw await explain(context, set, INFRA_CONTAINER, error, signal);
    return createContainer(context, set, specFor(await context.restoreInfraImage()), signal);
  }
}

async function createBusiness(
  context: DockerContext,
  { cgroups, hasInit }: DockerEnvironment,
  {
    set,
    name,
    infraId,
    dataPath,
  }: { set: LocalSetSpec; name: string; infraId: string; dataPath: string | undefined },
  signal: AbortSignal,
): Promise<void> {
  const container = set.template.containers.find((candidate) => candidate.name === name);
  if (!container) throw new RangeError(`the set's template has no container "${name}"`);
  const spec = businessContainer(context.hostId, set, container, {
    infraId,
    cgroupParent: cgroups.parentOf(set.setId),
    dataPath,
    hasInit,
  });
  try {
    await createContainer(context, set, spec, signal);
  } catch (error) {
    if (!isImageMissing(error)) throw await explain(context, set, name, error, signal);
    throw toImageMissing(container.image);
  }
}

async function createContainer(
  { docker, index }: DockerContext,
  { setId }: LocalSetSpec,
  spec: Docker.ContainerCreateOptions,
  signal: AbortSignal,
): Promise<string> {
  const container = await callDocker(
    { phase: "prepare", timeoutMs: createTimeoutMs },
    signal,
    (abortSignal) => docker.createContainer({ ...spec, abortSignal }),
  );
  // The event of the creation may arrive after the next list.
  index.noteCreated({ setId, dockerId: container.id });
  return container.id;
}

function toImageMissing(image: string): AgentError {
  const options = { phase: "image" as const, temporary: true };
  return new AgentError(IMAGE_MISSING, `image "${image}" is not on this host`, options);
}

function isImageMissing(error: unknown): boolean {
  return dockerStatus(error) === 404 && /no such image/i.test(dockerMessage(error));
}

/**
 * Explains a name conflict. The name may belong to a container of this set that is newer than the
 * list: temporary, a retry helps. Or it belongs to a foreign container, which Berth does not touch:
 * only an operator can help.
 */
async function explain(
  context: DockerContext,
  set: LocalSetSpec,
  name: string,
  error: unknown,
  signal: AbortSignal,
): Promise<unknown> {
  const owner = /already in use by container "?([0-9a-f]{12,64})/.exec(dockerMessage(error))?.[1];
  if (dockerStatus(error) !== 409 || owner === undefined) return error;
  const info = await callDocker(
    { phase: "prepare", timeoutMs: createTimeoutMs },
    signal,
    (abortSignal) => context.docker.getContainer(owner).inspect({ abortSignal }),
  ).catch((inspectError: unknown) => {
    if (dockerStatus(inspectError) === 404) return undefined;
    throw inspectError;
  });
  const ownLabels = info?.Config.Labels;
  const isOurs =
    !info || (ownLabels?.[labels.host] === context.hostId && ownLabels[labels.set] === set.setId);
  if (isOurs) return error;
  return new AgentError(
    "name-conflict",
    `the container name ${info.Name.slice(1)} belongs to a foreign container (${owner.slice(0, 12)}). Remove or rename that container to let "${name}" start.`,
    { phase: "prepare", temporary: false, cause: error },
  );
}
