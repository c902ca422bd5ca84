import { callDocker } from "./call-docker.ts";
import type { DockerContext } from "./docker-context.ts";
import { ignoreStatuses } from "./ignore-statuses.ts";

/** The longest stop timeout that a template allows (contracts/api/set-template.ts). */
const stopTimeoutSecondsMax = 600;
/** Time for Docker beyond the container's own timeout. */
const stopGraceMs = 30_000;

/** ContainerPort.stop on Docker. */
export async function stopContainer(
  { docker }: Pick<DockerContext, "docker">,
  dockerId: string,
  timeoutSeconds: number | undefined,
  signal: AbortSignal,
): Promise<void> {
  const timeoutMs = (timeoutSeconds ?? stopTimeoutSecondsMax) * 1_000 + stopGraceMs;
  await ignoreStatuses([304, 404], () =>
    callDocker({ phase: "stop", timeoutMs }, signal, (abortSignal) =>
      docker
        .getContainer(dockerId)
        .stop({ ...(timeoutSeconds === undefined ? {} : { t: timeoutSeconds }), abortSignal }),
    ),
  );
}
