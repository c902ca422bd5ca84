import { AgentError } from "../../agent-error.ts";
import type { Limits, LocalSetSpec } from "../../ports/set-port.ts";
import { containerLimits, isLimited, setLimits, widenedLimits } from "../../set-limits.ts";
import { memoryInUse } from "../cgroup/memory-in-use.ts";
import { callDocker, dockerMessage, settleAll } from "./call-docker.ts";
import { isInfra, type ListedContainer } from "./container-labels.ts";
import { dockerLimits } from "./container-specs.ts";
import type { DockerContext } from "./docker-context.ts";
import { listContainers } from "./list-containers.ts";

const updateTimeoutMs = 30_000;

/** The kernel's EBUSY in the words of runc, old and new. */
const inUsePattern = /unable to set memory limit|device or resource busy/i;

/**
 * Gives a set's cgroup, its containers and its volume the size of its template while they run. What can be changed is
 * changed, also when something else cannot.
 */
export async function resizeSet(
  context: DockerContext,
  set: LocalSetSpec,
  signal: AbortSignal,
): Promise<void> {
  const grown = set.template.volume ? context.volumes?.ensure(set, signal) : undefined;
  await settleAll([changeLimits(context, set, signal), Promise.resolve(grown)]);
}

/**
 * The set's cgroup is widened first and narrowed last: in version 1 the kernel refuses a quota of a child above its
 * parent's, either way round. So it is not narrowed while a container could not be.
 */
async function changeLimits(
  context: DockerContext,
  set: LocalSetSpec,
  signal: AbortSignal,
): Promise<void> {
  const { cgroups } = await context.environment();
  const [seen, containers] = await Promise.all([
    cgroups.read(set.setId),
    listContainers(context, { setId: set.setId, phase: "resize" }, signal),
  ]);
  const wanted = setLimits(set.template);
  const widened = widenedLimits(seen, wanted);
  if (!seen || !isLimited(seen, widened)) await cgroups.ensure(set.setId, widened, signal);
  const business = containers.filter((container) => !isInfra(container));
  await settleAll(business.map((container) => applyLimits(context, set, container, signal)));
  if (!isLimited(widened, wanted)) await cgroups.ensure(set.setId, wanted, signal);
}

/** Limits that are not as the template says; changed without a restart. */
export async function applyLimits(
  context: DockerContext,
  set: LocalSetSpec,
  container: ListedContainer,
  signal: AbortSignal,
): Promise<void> {
  const template = set.template.containers.find(({ name }) => name === container.name);
  const details = await context.details.get(container, signal);
  if (!template || !details) return;
  const wanted = containerLimits(set.template, template.options);
  const { limits: seen } = details;
  if (isLimited(seen, wanted)) return;
  try {
    await narrowOrWiden(context, set, { container, seen, wanted }, signal);
  } finally {
    context.details.forget(container.dockerId);
  }
}

/** Memory that is in use does not hold up the CPU. */
async function narrowOrWiden(
  context: DockerContext,
  { setId }: LocalSetSpec,
  { container, seen, wanted }: { container: ListedContainer; seen: Limits; wanted: Limits },
  signal: AbortSignal,
): Promise<void> {
  const { cgroups } = await context.environment();
  const { memoryBytes: wantedBytes } = wanted;
  try {
    await cgroups.checkContainerMemory(setId, container, wantedBytes);
    await updateContainer(context, container, wanted, signal);
  } catch (error) {
    const refusal = toRefusal(container, wantedBytes, error);
    const cpuAlone = { ...wanted, memoryBytes: seen.memoryBytes };
    const isCpuLeft = refusal && Number.isFinite(seen.memoryBytes) && !isLimited(seen, cpuAlone);
    if (isCpuLeft) await updateContainer(context, container, cpuAlone, signal);
    throw refusal ?? error;
  }
}

function updateContainer(
  { docker }: DockerContext,
  { dockerId }: ListedContainer,
  limits: Limits,
  signal: AbortSignal,
): Promise<unknown> {
  return callDocker({ phase: "resize", timeoutMs: updateTimeoutMs }, signal, (abortSignal) =>
    docker.getContainer(dockerId).update({ ...dockerLimits(limits), abortSignal }),
  );
}

/** The error that says so when `error` means that the memory is in use; undefined for any other. */
function toRefusal(
  { name }: ListedContainer,
  wantedBytes: number,
  error: unknown,
): AgentError | undefined {
  if (error instanceof AgentError && error.code === "memory-in-use") return error;
  const said = dockerMessage(error);
  if (!inUsePattern.test(said)) return undefined;
  const used = /current usage: (\d+)/i.exec(said)?.[1];
  const usedBytes = used === undefined ? undefined : Number(used);
  return memoryInUse(`"${name}"`, { usedBytes, wantedBytes }, error);
}
