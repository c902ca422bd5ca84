import { setTimeout as delay } from "node:timers/promises";
import type { AgentPhase } from "../../agent/base/agent-error.ts";
import { callDocker, dockerMessage, dockerStatus, settleAll } from "./call-docker.ts";
import type { ListedContainer } from "./container-labels.ts";
import type { DockerContext } from "./docker-context.ts";
import { listContainers } from "./list-containers.ts";

/** The longest stop timeout that a template allows (contracts/api/set-template.ts). */
const stopTimeoutSecondsMax = 600;
/** Time for Docker beyond the container's own timeout. */
const stopGraceMs = 30_000;
const removeTimeoutMs = 60_000;
const removalDeadlineMs = 30_000;
const removalPollMs = 20;

/**
 * Stops a container with its stop signal, and kills it after `timeoutSeconds` (by default its own
 * timeout).
 */
export async function stopContainer(
  { docker }: Pick<DockerContext, "docker">,
  dockerId: string,
  timeoutSeconds: number | undefined,
  signal: AbortSignal,
): Promise<void> {
  const timeoutMs = (timeoutSeconds ?? stopTimeoutSecondsMax) * 1_000 + stopGraceMs;
  await ignoring([304, 404], () =>
    callDocker({ phase: "stop", timeoutMs }, signal, (abortSignal) =>
      docker
        .getContainer(dockerId)
        .stop({ ...(timeoutSeconds === undefined ? {} : { t: timeoutSeconds }), abortSignal }),
    ),
  );
}

/**
 * Stops containers in the reverse of their start order: highest index first, equal indexes
 * together.
 */
export async function stopInOrder(
  context: Pick<DockerContext, "docker">,
  containers: readonly ListedContainer[],
  signal: AbortSignal,
): Promise<void> {
  const indexes = [...new Set(containers.map(({ index }) => index))].sort((a, b) => b - a);
  for (const index of indexes) {
    const group = containers.filter((container) => container.index === index && isUp(container));
    await settleAll(
      group.map(({ dockerId }) => stopContainer(context, dockerId, undefined, signal)),
    );
  }
}

/**
 * Stops and deletes containers in stop order, with their anonymous volumes. A missing container is
 * not an error.
 */
export async function removeContainers(
  context: Pick<DockerContext, "docker" | "hostId" | "index">,
  containers: readonly ListedContainer[],
  { phase }: { phase: AgentPhase },
  signal: AbortSignal,
): Promise<void> {
  await stopInOrder(context, containers, signal);
  await settleAll(
    containers.map((container) => removeContainer(context, container, phase, signal)),
  );
}

async function removeContainer(
  context: Pick<DockerContext, "docker" | "hostId" | "index">,
  { dockerId, setId }: ListedContainer,
  phase: AgentPhase,
  signal: AbortSignal,
): Promise<void> {
  try {
    await ignoring([404], () =>
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

function isUp({ dockerState }: ListedContainer): boolean {
  return dockerState === "running" || dockerState === "paused" || dockerState === "restarting";
}

async function ignoring(statuses: readonly number[], call: () => Promise<unknown>): Promise<void> {
  try {
    await call();
  } catch (error) {
    const status = dockerStatus(error);
    if (status === undefined || !statuses.includes(status)) throw error;
  }
}
