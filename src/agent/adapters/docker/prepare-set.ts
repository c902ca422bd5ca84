import type Docker from "dockerode";
import { AgentError } from "../../agent-error.ts";
import { INFRA_CONTAINER } from "../../container-names.ts";
import type { LocalSetSpec } from "../../ports/set-port.ts";
import { specHash } from "../../spec-hash.ts";
import { callDocker, dockerMessage, dockerStatus, settleAll } from "./call-docker.ts";
import { isInfra, labels, type ListedContainer } from "./container-labels.ts";
import { businessContainer, infraContainer } from "./container-specs.ts";
import type { DockerContext, DockerEnvironment } from "./docker-context.ts";
import { setLimits, widenedLimits } from "../../set-limits.ts";
import { listContainers } from "./list-containers.ts";
import { isCutOff } from "./observe-sets.ts";
import type { PullImage } from "./pull-image.ts";
import { applyLimits } from "./resize-set.ts";
import { startInfra } from "./start-infra.ts";
import { removeContainers } from "./stop-containers.ts";

const createTimeoutMs = 60_000;

export interface PrepareContext extends DockerContext {
  pullImage: PullImage;
}

/**
 * SetPort.prepare on Docker. Looks at what there is (one list call), removes what is stale, and makes what is missing:
 *
 *     volume  ----------\
 *     cgroup  -----------+
 *     create infra ------+--> start infra
 *                   \--> create the business containers, all at once
 *
 * because a container can be created as soon as the owner of its network exists, and its volume need not be mounted
 * before it starts. Any step may be the last one before
 * the agent dies: the next call finds what came of it by label.
 *
 * What runs keeps its limits, and the set's cgroup is at most widened. Narrowing it is refused while containers have their
 * former limits or use more: that must not keep a set from being prepared, and is left to resizeSet.
 */
export async function prepareSet(
  context: PrepareContext,
  set: LocalSetSpec,
  signal: AbortSignal,
): Promise<void> {
  const dataPath = dataPathOf(context, set);
  const environment = await context.environment();
  const existing = await listContainers(context, { setId: set.setId, phase: "prepare" }, signal);
  const stale = await findStale(context, set, existing, signal);
  if (stale.length > 0) await removeContainers(context, stale, { phase: "prepare" }, signal);
  const kept = existing.filter((container) => !stale.includes(container));

  const mounted = dataPath === undefined ? undefined : context.volumes?.ensure(set, signal);
  // Whatever else fails, the volume is not left to be worked on while the next call comes.
  await settleAll([
    Promise.resolve(mounted),
    prepareContainers(context, set, { environment, dataPath, kept, mounted }, signal),
  ]);
}

async function prepareContainers(
  context: PrepareContext,
  set: LocalSetSpec,
  {
    environment,
    dataPath,
    kept,
    mounted,
  }: {
    environment: DockerEnvironment;
    dataPath: string | undefined;
    kept: readonly ListedContainer[];
    mounted: Promise<void> | undefined;
  },
  signal: AbortSignal,
): Promise<void> {
  const limited = widenCgroup(environment, set, signal);
  const keptInfra = kept.find(isInfra);
  const created = keptInfra
    ? Promise.resolve(keptInfra.dockerId)
    : createInfra(context, environment, { set, dataPath }, signal);
  await settleAll([limited, created]);
  const infraId = await created;
  const startWhenMounted = async () => {
    await mounted;
    const isRunning = keptInfra?.dockerState === "running";
    await startInfra(context, set, { infraId, isRunning }, signal);
  };
  await settleAll([
    startWhenMounted(),
    ...set.template.containers.map(async ({ name }) => {
      const existing = kept.find((candidate) => candidate.name === name);
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

/** With its former limits it may not even start in a cgroup that was made anew. */
function isDown({ dockerState }: ListedContainer): boolean {
  return dockerState === "created" || dockerState === "exited";
}

/** Where the data of the set's volume is on this host, once it is mounted. Undefined: it has none. */
function dataPathOf({ volumes }: DockerContext, set: LocalSetSpec): string | undefined {
  if (set.template.volume === null) return undefined;
  if (volumes) return volumes.dataPathOf(set);
  throw new AgentError("not-supported", "this host has no room for volumes", {
    phase: "prepare",
    temporary: false,
  });
}

/**
 * Containers that are not what the set should have: another spec, not in the template any more, broken, joined to an
 * infra container that is no more, or left running without the network of an infra container that died. When the
 * infra container is stale, everything is: it owns what the others joined.
 */
async function findStale(
  context: DockerContext,
  set: LocalSetSpec,
  existing: readonly ListedContainer[],
  signal: AbortSignal,
): Promise<ListedContainer[]> {
  const infra = existing.find(isInfra);
  if (!infra || isOutdated(set, infra)) return [...existing];
  const isInfraUp = infra.dockerState === "running";
  const infraDetails = isInfraUp ? await context.details.get(infra, signal) : undefined;
  const verdicts = await Promise.all(
    existing.map(async (container) => {
      if (isInfra(container)) return false;
      if (isOutdated(set, container)) return true;
      if (container.networkMode !== `container:${infra.dockerId}`) return true;
      if (container.dockerState !== "running") return false;
      return !isInfraUp || isCutOff(await context.details.get(container, signal), infraDetails);
    }),
  );
  return existing.filter((_container, position) => verdicts[position]);
}

function isOutdated(set: LocalSetSpec, container: ListedContainer): boolean {
  const isWanted =
    isInfra(container) || set.template.containers.some(({ name }) => name === container.name);
  return (
    !isWanted ||
    container.dockerState === "dead" ||
    container.dockerState === "removing" ||
    container.restartGeneration < set.restartGeneration ||
    container.specHash !== specHash(set, container.name)
  );
}

async function createInfra(
  context: PrepareContext,
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
    return await createContainer(context, specFor(await context.infraImage()), signal);
  } catch (error) {
    if (!isImageMissing(error)) throw await explain(context, set, INFRA_CONTAINER, error, signal);
    return createContainer(context, specFor(await context.restoreInfraImage()), signal);
  }
}

async function createBusiness(
  context: PrepareContext,
  { cgroups }: DockerEnvironment,
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
  });
  try {
    await createContainer(context, spec, signal);
  } catch (error) {
    if (!isImageMissing(error)) throw await explain(context, set, name, error, signal);
    await context.pullImage(container.image, signal);
    await createContainer(context, spec, signal);
  }
}

async function createContainer(
  { docker }: DockerContext,
  spec: Docker.ContainerCreateOptions,
  signal: AbortSignal,
): Promise<string> {
  const container = await callDocker(
    { phase: "prepare", timeoutMs: createTimeoutMs },
    signal,
    (abortSignal) => docker.createContainer({ ...spec, abortSignal }),
  );
  return container.id;
}

function isImageMissing(error: unknown): boolean {
  return dockerStatus(error) === 404 && /no such image/i.test(dockerMessage(error));
}

/**
 * A name that is taken is either our own container of which the list did not know yet (temporary: look again), or
 * somebody else's, which is left alone: then only a person can help.
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
    `the name ${info.Name.slice(1)} is taken by a container that is not Berth's (${owner.slice(0, 12)}), which is left alone; remove or rename it to let "${name}" start`,
    { phase: "prepare", temporary: false, cause: error },
  );
}
