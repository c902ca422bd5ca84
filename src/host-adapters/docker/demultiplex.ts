import { AgentError } from "../../agent/base/agent-error.ts";

const headerBytes = 8;
/** Docker splits lines at 16 KiB. A longer frame means that the stream is malformed. */
const frameBytesMax = 2 ** 20;
/** 0 to 2 are standard input, output and error. 3 is Docker's message about an unreadable log. */
const streamMax = 3;
const stderrStream = 2;

/** One frame of Docker, or a part of it. */
export interface StreamPart {
  stream: "stdout" | "stderr";
  bytes: Buffer;
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
  for await (const parts of readParts(output)) yield join(parts.map(({ bytes }) => bytes));
}

/** The same, but separates the standard error from the output. */
export async function* separateStreams(output: AsyncIterable<unknown>): AsyncGenerator<StreamPart> {
  for await (const parts of readParts(output)) {
    let run: Buffer[] = [];
    for (const [position, { stream, bytes }] of parts.entries()) {
      run.push(bytes);
      if (parts[position + 1]?.stream === stream) continue;
      yield { stream, bytes: join(run) };
      run = [];
    }
  }
}

function join(payloads: readonly Buffer[]): Buffer {
  const [first] = payloads;
  return first && payloads.length === 1 ? first : Buffer.concat(payloads);
}

/** Yields the payloads of each piece of the stream that has any. */
async function* readParts(output: AsyncIterable<unknown>): AsyncGenerator<StreamPart[]> {
  let header = Buffer.alloc(0);
  let payloadBytesLeft = 0;
  let stream: StreamPart["stream"] = "stdout";
  for await (const piece of output) {
    let chunk = toBuffer(piece);
    const parts: StreamPart[] = [];
    while (chunk.length > 0) {
      if (payloadBytesLeft === 0) {
        const taken = Math.min(headerBytes - header.length, chunk.length);
        header = Buffer.concat([header, chunk.subarray(0, taken)]);
        chunk = chunk.subarray(taken);
        if (header.length < headerBytes) continue;
        payloadBytesLeft = payloadBytes(header);
        stream = header[0] === stderrStream ? "stderr" : "stdout";
        header = Buffer.alloc(0);
      } else {
        const bytes = chunk.subarray(0, payloadBytesLeft);
        payloadBytesLeft -= bytes.length;
        chunk = chunk.subarray(bytes.length);
        parts.push({ stream, bytes });
      }
    }
    if (parts.length > 0) yield parts;
  }
}

function payloadBytes(header: Buffer): number {
  const bytes = header.readUInt32BE(4);
  if ((header[0] ?? 0) > streamMax || bytes > frameBytesMax) {
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
