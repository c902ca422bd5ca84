import { setTimeout as delay } from "node:timers/promises";
import type { AgentPhase } from "../../agent-error.ts";
import { callDocker, dockerMessage, dockerStatus, settleAll } from "./call-docker.ts";
import type { ListedContainer } from "./container-labels.ts";
import type { DockerContext } from "./docker-context.ts";
import { listContainers } from "./list-containers.ts";

/** The longest stop timeout a template may ask for (contracts/api/set-template.ts). */
const stopTimeoutSecondsMax = 600;
/** What Docker may take beyond the container's own timeout. */
const stopGraceMs = 30_000;
const removeTimeoutMs = 60_000;
const goneDeadlineMs = 30_000;
const gonePollMs = 20;

/** Stops one container with its stop signal; after `timeoutSeconds` (its own when not given) it is killed. */
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

/** Stops the containers in the reverse of their start order: highest index first, equal indexes together. */
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

/** Stops and removes containers, in stop order, with their anonymous volumes. What is gone already is no error. */
export async function removeContainers(
  context: Pick<DockerContext, "docker" | "hostId">,
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
  context: Pick<DockerContext, "docker" | "hostId">,
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
    await waitUntilGone(context, { dockerId, setId, phase }, signal, error);
  }
}

/** Somebody else (an earlier life of this agent, a person) is removing it: its name is free when it is gone. */
async function waitUntilGone(
  context: Pick<DockerContext, "docker" | "hostId">,
  { dockerId, setId, phase }: { dockerId: string; setId: string; phase: AgentPhase },
  signal: AbortSignal,
  conflict: unknown,
): Promise<void> {
  const startedAtMs = performance.now();
  for (;;) {
    const left = await listContainers(context, { setId, phase }, signal);
    if (!left.some((container) => container.dockerId === dockerId)) return;
    if (performance.now() - startedAtMs > goneDeadlineMs) throw conflict;
    await delay(gonePollMs, undefined, { signal });
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
