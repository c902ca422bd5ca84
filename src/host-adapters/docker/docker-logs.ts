import type { IncomingMessage } from "node:http";
import type Docker from "dockerode";
import type { LogPort } from "../../agent/ports/log-port.ts";
import { onAbort } from "../../lib/async/abort.ts";
import { callDocker } from "./call-docker.ts";
import { demultiplex } from "./demultiplex.ts";

const openTimeoutMs = 20_000;

/** LogPort on Docker. */
export function createDockerLogs(docker: Docker): LogPort {
  return { read: (dockerId, range, signal) => readLogs(docker, { dockerId, ...range }, signal) };
}

interface LogRange {
  dockerId: string;
  tail: number;
  follow: boolean;
}

async function* readLogs(
  docker: Docker,
  range: LogRange,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const output = await callDocker({ phase: "observe", timeoutMs: openTimeoutMs }, signal, () =>
    openLogs(docker, range),
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
  docker: Docker,
  { dockerId, tail, follow }: LogRange,
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
