import { AgentError } from "../../agent/base/agent-error.ts";
import type { LocalSetSpec } from "../../agent/model/local-set.ts";
import { callDocker, dockerMessage, dockerStatus, findRefusal, settleAll } from "./call-docker.ts";
import { limitIo } from "./container-io.ts";
import { isInfra, type ListedContainer } from "./container-labels.ts";
import type { DockerContext } from "./docker-context.ts";
import { listContainers } from "./list-containers.ts";
import { hasLostNetwork } from "./observe-sets.ts";
import { stopContainer } from "./stop-containers.ts";

const startTimeoutMs = 60_000;
/** Messages that blame the set: its command, working directory or user is not in the image. */
const ownFault =
  /executable file not found|no such file or directory|permission denied|not a directory|is a directory|exec format error|unable to find (user|group)|no matching entries in|chdir to cwd/i;

/** SetPort.start on Docker. */
export async function startContainers(
  context: DockerContext,
  set: LocalSetSpec,
  names: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  const listed = await listContainers(context, { setId: set.setId, phase: "start" }, signal);
  const infra = listed.find(isInfra);
  await settleAll(
    names.map(async (name) => {
      const container = listed.find((candidate) => candidate.name === name);
      if (!container || !infra) {
        throw new AgentError("not-prepared", `the container "${name}" does not exist yet`, {
          phase: "start",
          temporary: true,
        });
      }
      if (container.dockerState === "running") {
        if (!(await isWithoutNetwork(context, container, infra, signal))) return;
        await stopContainer(context, container.dockerId, undefined, signal);
      }
      await context.startLimit(set.tenant, () => startContainer(context, container, signal));
      await limitIoFromStart(context, set, { ...container, dockerState: "running" }, signal);
    }),
  );
}

/**
 * Limits block I/O after a start, when there is no limit to remove. A failure does not fail the
 * start: the next observation finds the missing limit.
 */
async function limitIoFromStart(
  context: DockerContext,
  set: LocalSetSpec,
  container: ListedContainer,
  signal: AbortSignal,
): Promise<void> {
  if (!set.template.io) return;
  await limitIo(context, set, container, signal).catch((error: unknown) => {
    signal.throwIfAborted();
    context.log.warn({ err: error, setId: set.setId }, "cannot limit block I/O after the start");
  });
}

async function isWithoutNetwork(
  { details }: DockerContext,
  container: ListedContainer,
  infra: ListedContainer,
  signal: AbortSignal,
): Promise<boolean> {
  if (infra.dockerState !== "running") return true;
  return hasLostNetwork(await details.get(container, signal), await details.get(infra, signal));
}

async function startContainer(
  { docker }: DockerContext,
  { dockerId, name }: ListedContainer,
  signal: AbortSignal,
): Promise<void> {
  try {
    await callDocker({ phase: "start", timeoutMs: startTimeoutMs }, signal, (abortSignal) =>
      docker.getContainer(dockerId).start({ abortSignal }),
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
