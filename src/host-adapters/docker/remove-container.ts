import { setTimeout as delay } from "node:timers/promises";
import type { AgentPhase } from "../../agent/base/agent-error.ts";
import type { ListedContainer } from "../../agent/ports/container-port.ts";
import { callDocker, dockerMessage, dockerStatus } from "./call-docker.ts";
import type { DockerContext } from "./docker-context.ts";
import { ignoreStatuses } from "./ignore-statuses.ts";
import { listContainers } from "./list-containers.ts";

const removeTimeoutMs = 60_000;
const removalDeadlineMs = 30_000;
const removalPollMs = 20;

/** ContainerPort.remove on Docker. */
export async function removeContainer(
  context: Pick<DockerContext, "docker" | "hostId" | "index">,
  { dockerId, setId }: ListedContainer,
  phase: AgentPhase,
  signal: AbortSignal,
): Promise<void> {
  try {
    await ignoreStatuses([404], () =>
      callDocker({ phase, timeoutMs: removeTimeoutMs }, signal, (abortSignal) =>
        context.docker.getContainer(dockerId).remove({ force: true, v: true, abortSignal }),
      ),
    );
  } catch (error) {
    if (dockerStatus(error) !== 409 || !dockerMessage(error).includes("already in progress")) {
      throw error;
    }
    await waitUntilRemoved(context, { dockerId, setId, phase }, signal, error);
  }
}

/**
 * Waits for a deletion by another process, such as an earlier agent. Afterwards the name is free.
 */
async function waitUntilRemoved(
  context: Pick<DockerContext, "docker" | "hostId" | "index">,
  { dockerId, setId, phase }: { dockerId: string; setId: string; phase: AgentPhase },
  signal: AbortSignal,
  conflict: unknown,
): Promise<void> {
  const startedAtMs = performance.now();
  for (;;) {
    const left = await listContainers(context, { setId, phase }, signal);
    if (!left.some((container) => container.dockerId === dockerId)) return;
    if (performance.now() - startedAtMs > removalDeadlineMs) throw conflict;
    await delay(removalPollMs, undefined, { signal });
  }
}
