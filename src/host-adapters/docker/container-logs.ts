import type { IncomingMessage } from "node:http";
import { AgentError } from "../../agent/base/agent-error.ts";
import { onAbort } from "../../lib/async/abort.ts";
import { callDocker } from "./call-docker.ts";
import { demultiplex } from "./demultiplex.ts";
import type { DockerContext } from "./docker-context.ts";
import { listContainers } from "./list-containers.ts";

const openTimeoutMs = 20_000;
/**
 * Streams a container's output, demultiplexed, with backpressure. Without `follow` it ends with the
 * existing output. An aborted `signal` ends it without an error.
 */
export async function* containerLogs(
  context: DockerContext,
  { setId, container }: { setId: string; container: string },
  { tail, follow }: { tail: number; follow: boolean },
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const listed = await listContainers(context, { setId, phase: "observe" }, signal);
  const found = listed.find(({ name }) => name === container);
  if (!found) {
    throw new AgentError("not-there", `the set has no container "${container}" on this host`, {
      phase: "observe",
      temporary: true,
    });
  }
  const output = await callDocker({ phase: "observe", timeoutMs: openTimeoutMs }, signal, () =>
    openLogs(context, { dockerId: found.dockerId, tail, follow }),
  );
  const stopClosing = onAbort(signal, () => output.destroy());
  try {
    yield* demultiplex(output);
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    stopClosing();
    output.destroy();
  }
}

/**
 * Uses the client's low-level `dial`, because its `logs` buffers the whole output unless it
 * follows.
 */
async function openLogs(
  { docker }: DockerContext,
  { dockerId, tail, follow }: { dockerId: string; tail: number; follow: boolean },
): Promise<IncomingMessage> {
  const query = new URLSearchParams({
    stdout: "1",
    stderr: "1",
    tail: String(tail),
    follow: follow ? "1" : "0",
  });
  return new Promise((resolve, reject) => {
    docker.modem.dial(
      {
        path: `/containers/${dockerId}/logs?${query.toString()}&`,
        method: "GET",
        isStream: true,
        statusCodes: { 200: true, 404: "no such container", 500: "server error" },
      },
      (error: Error | null, result: unknown) =>
        error ? reject(error) : resolve(result as IncomingMessage),
    );
  });
}
