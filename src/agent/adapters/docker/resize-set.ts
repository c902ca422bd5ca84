import { AgentError } from "../../agent-error.ts";
import type { LocalSetSpec } from "../../ports/set-port.ts";
import { containerLimits, setLimits } from "../../set-limits.ts";
import { callDocker, dockerMessage } from "./call-docker.ts";
import { isInfra, type ListedContainer } from "./container-labels.ts";
import { dockerLimits } from "./container-specs.ts";
import type { DockerContext } from "./docker-context.ts";
import { listContainers } from "./list-containers.ts";

const updateTimeoutMs = 30_000;

/** The kernel's EBUSY in the words of runc, old and new. */
const inUsePattern = /unable to set memory limit|device or resource busy/i;

/**
 * Gives a set's cgroup, its containers and its volume the size of its template while they run. The set's cgroup is widened
 * first and narrowed last: in version 1 the kernel refuses a quota of a child above its parent's, either way round.
 */
export async function resizeSet(
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
  const widest = {
    cpuQuotaUs: Math.max(finite(seen?.cpuQuotaUs), wanted.cpuQuotaUs),
    memoryBytes: Math.max(finite(seen?.memoryBytes), wanted.memoryBytes),
  };
  await cgroups.ensure(set.setId, widest, signal);
  const business = containers.filter((container) => !isInfra(container));
  for (const container of business) await applyLimits(context, set, container, signal);
  await cgroups.ensure(set.setId, wanted, signal);
  if (set.template.volume) await context.volumes?.ensure(set, signal);
}

/** What somebody has lifted needs no widening. */
function finite(limit: number | undefined): number {
  return limit !== undefined && Number.isFinite(limit) ? limit : 0;
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
  const { limits } = details;
  if (limits.cpuQuotaUs === wanted.cpuQuotaUs && limits.memoryBytes === wanted.memoryBytes) return;
  try {
    await callDocker({ phase: "resize", timeoutMs: updateTimeoutMs }, signal, (abortSignal) =>
      context.docker
        .getContainer(container.dockerId)
        .update({ ...dockerLimits(wanted), abortSignal }),
    );
  } catch (error) {
    const said = dockerMessage(error);
    if (!inUsePattern.test(said)) throw error;
    const used = /current usage: (\d+)/i.exec(said)?.[1] ?? "more";
    throw new AgentError(
      "memory-in-use",
      `"${container.name}" uses ${used} bytes of memory, and is to have ${wanted.memoryBytes}: it keeps ${limits.memoryBytes} until it uses less`,
      { phase: "resize", temporary: true, cause: error },
    );
  } finally {
    context.details.forget(container.dockerId);
  }
}
