import type Docker from "dockerode";
import { AgentError, IMAGE_MISSING } from "../../agent/base/agent-error.ts";
import { INFRA_CONTAINER } from "../../agent/model/container-names.ts";
import type { LocalSetSpec } from "../../agent/model/local-set.ts";
import type { BusinessOptions, InfraOptions } from "../../agent/ports/container-port.ts";
import { callDocker, dockerMessage, dockerStatus } from "./call-docker.ts";
import { labels } from "./container-labels.ts";
import { businessContainer, infraContainer } from "./container-specs.ts";
import type { DockerContext } from "./docker-context.ts";

const createTimeoutMs = 60_000;

/** ContainerPort.createInfra on Docker. */
export async function createInfra(
  context: DockerContext,
  set: LocalSetSpec,
  options: InfraOptions,
  signal: AbortSignal,
): Promise<string> {
  const { canRunPrivileged } = await context.facts();
  const hasNames = options.networks[0].attachment !== undefined && (await context.hasNames(signal));
  const spec = infraContainer(context.hostId, set, { ...options, canRunPrivileged, hasNames });
  const { image } = options;
  return createContainer(context, { set, name: INFRA_CONTAINER, image, spec }, signal);
}

/** ContainerPort.createBusiness on Docker. */
export async function createBusiness(
  context: DockerContext,
  set: LocalSetSpec,
  { name, ...options }: BusinessOptions & { name: string },
  signal: AbortSignal,
): Promise<string> {
  const { hasInit } = await context.facts();
  const container = set.template.containers.find((candidate) => candidate.name === name);
  if (!container) throw new RangeError(`the set's template has no container "${name}"`);
  const spec = businessContainer(context.hostId, set, container, { ...options, hasInit });
  return createContainer(context, { set, name, image: container.image, spec }, signal);
}

interface Creation {
  set: LocalSetSpec;
  name: string;
  image: string;
  spec: Docker.ContainerCreateOptions;
}

async function createContainer(
  context: DockerContext,
  creation: Creation,
  signal: AbortSignal,
): Promise<string> {
  const { docker, index, cpus } = context;
  const { HostConfig: hostConfig, ...spec } = creation.spec;
  const cpuset = cpus ? { CpusetCpus: cpus.join(",") } : {};
  const options = { ...spec, HostConfig: { ...hostConfig, ...cpuset } };
  try {
    const container = await callDocker(
      { phase: "prepare", timeoutMs: createTimeoutMs },
      signal,
      (abortSignal) => docker.createContainer({ ...options, abortSignal }),
    );
    // The event of the creation may arrive after the next list.
    index.noteCreated({ setId: creation.set.setId, dockerId: container.id });
    return container.id;
  } catch (error) {
    if (!isImageMissing(error)) throw await explain(context, creation, error, signal);
    const message = `image "${creation.image}" is not on this host`;
    throw new AgentError(IMAGE_MISSING, message, { phase: "image", temporary: true });
  }
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
  { set, name }: Creation,
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
