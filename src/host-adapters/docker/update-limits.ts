import type { Limits } from "../../agent/model/local-set.ts";
import { memoryInUse } from "../../agent/model/memory-in-use.ts";
import type { ListedContainer } from "../../agent/ports/container-port.ts";
import { callDocker, dockerMessage } from "./call-docker.ts";
import { dockerLimits, dockerLimitsButMemory } from "./container-specs.ts";
import type { DockerContext } from "./docker-context.ts";

const updateTimeoutMs = 30_000;

/** The kernel's EBUSY in the messages of old and new runc. */
const inUsePattern = /unable to set memory limit|device or resource busy/i;

/** ContainerPort.updateLimits on Docker. */
export async function updateLimits(
  { docker, details, cpus }: DockerContext,
  {
    container: { dockerId, name },
    limits,
    includesMemory,
  }: { container: ListedContainer; limits: Limits; includesMemory: boolean },
  signal: AbortSignal,
): Promise<void> {
  const changed = includesMemory ? dockerLimits(limits) : dockerLimitsButMemory(limits);
  const update = { ...changed, ...(cpus ? { CpusetCpus: cpus.join(",") } : {}) };
  try {
    await callDocker({ phase: "resize", timeoutMs: updateTimeoutMs }, signal, (abortSignal) =>
      docker.getContainer(dockerId).update({ ...update, abortSignal }),
    );
  } catch (error) {
    const message = dockerMessage(error);
    if (!inUsePattern.test(message)) throw error;
    const used = /current usage: (\d+)/i.exec(message)?.[1];
    const usedBytes = used === undefined ? undefined : Number(used);
    throw memoryInUse(`"${name}"`, { usedBytes, wantedBytes: limits.memoryBytes }, error);
  } finally {
    details.forget(dockerId);
  }
}
