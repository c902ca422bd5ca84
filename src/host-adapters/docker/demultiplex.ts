import { AgentError } from "../../agent/base/agent-error.ts";

const headerBytes = 8;
/** Docker splits lines at 16 KiB. A longer frame means that the stream is malformed. */
const frameBytesMax = 2 ** 20;
/** 0 to 2 are standard input, output and error. 3 is Docker's message about an unreadable log. */
const streamMax = 3;

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
