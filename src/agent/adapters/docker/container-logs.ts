import type { IncomingMessage } from "node:http";
import { AgentError } from "../../agent-error.ts";
import { callDocker } from "./call-docker.ts";
import type { DockerContext } from "./docker-context.ts";
import { listContainers } from "./list-containers.ts";

const openTimeoutMs = 20_000;
const headerBytes = 8;
/** Docker splits lines at 16 KiB. A longer frame means that the stream is malformed. */
const frameBytesMax = 2 ** 20;

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
  const close = () => output.destroy();
  signal.addEventListener("abort", close, { once: true });
  try {
    yield* demultiplex(output);
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    signal.removeEventListener("abort", close);
    output.destroy();
  }
}

/**
 * Yields the payloads of Docker's frames. A frame is an 8-byte header (stream, three zeros,
 * big-endian length) and its payload.
 *
 * Docker writes a frame for each line. All payloads of one piece of the stream are one chunk,
 * because each chunk costs a message on the way to the reader. Parts of a frame are yielded as they
 * arrive, so the stream's buffer bounds the memory.
 */
export async function* demultiplex(output: AsyncIterable<unknown>): AsyncGenerator<Uint8Array> {
  let header = Buffer.alloc(0);
  let payloadBytesLeft = 0;
  for await (const piece of output) {
    let chunk = toBuffer(piece);
    const payloads: Buffer[] = [];
    while (chunk.length > 0) {
      if (payloadBytesLeft === 0) {
        const taken = Math.min(headerBytes - header.length, chunk.length);
        header = Buffer.concat([header, chunk.subarray(0, taken)]);
        chunk = chunk.subarray(taken);
        if (header.length < headerBytes) continue;
        payloadBytesLeft = payloadBytes(header);
        header = Buffer.alloc(0);
      } else {
        const payload = chunk.subarray(0, payloadBytesLeft);
        payloadBytesLeft -= payload.length;
        chunk = chunk.subarray(payload.length);
        payloads.push(payload);
      }
    }
    if (payloads.length === 1 && payloads[0]) yield payloads[0];
    else if (payloads.length > 1) yield Buffer.concat(payloads);
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

function payloadBytes(header: Buffer): number {
  const bytes = header.readUInt32BE(4);
  if ((header[0] ?? 0) > 2 || bytes > frameBytesMax) {
    throw new AgentError("docker-error", "Docker's log stream is malformed", {
      phase: "observe",
      temporary: false,
    });
  }
  return bytes;
}

function toBuffer(piece: unknown): Buffer {
  return Buffer.isBuffer(piece) ? piece : Buffer.from(String(piece));
}
