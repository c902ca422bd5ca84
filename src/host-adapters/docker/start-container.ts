import { AgentError } from "../../agent/base/agent-error.ts";
import type { ListedContainer } from "../../agent/ports/container-port.ts";
import { callDocker, dockerMessage, dockerStatus, findRefusal } from "./call-docker.ts";
import type { DockerContext } from "./docker-context.ts";

const startTimeoutMs = 60_000;
/** Messages that blame the set: its command, working directory or user is not in the image. */
const ownFault =
  /executable file not found|no such file or directory|permission denied|not a directory|is a directory|exec format error|unable to find (user|group)|no matching entries in|chdir to cwd/i;

/** ContainerPort.start on Docker. */
export async function startContainer(
  { docker, startLimit }: DockerContext,
  { dockerId, name, tenant }: ListedContainer,
  signal: AbortSignal,
): Promise<void> {
  try {
    await startLimit(tenant, () =>
      callDocker({ phase: "start", timeoutMs: startTimeoutMs }, signal, (abortSignal) =>
        docker.getContainer(dockerId).start({ abortSignal }),
      ),
    );
  } catch (error) {
    const status = dockerStatus(error);
    if (status === 304) return; // already running
    if (status === undefined) throw error;
    throw toStartError(name, status, error);
  }
}

function toStartError(name: string, status: number, error: unknown): AgentError {
  const detail = dockerMessage(error);
  const options = { phase: "start" as const, cause: findRefusal(error) };
  if (status === 409 || /non running container|No such container/i.test(detail)) {
    const message = `"${name}" cannot start yet: ${detail}`;
    return new AgentError("infra-not-running", message, { ...options, temporary: true });
  }
  return new AgentError("start-failed", `"${name}" cannot be started: ${detail}`, {
    ...options,
    temporary: status !== 400 && !ownFault.test(detail),
  });
}
