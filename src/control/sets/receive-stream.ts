import { AppError } from "../../contracts/common/app-error.ts";
import { batchBytes } from "../../lib/async/batch-bytes.ts";
import type { ControlContext } from "../runtime/context.ts";

/** The largest chunk in Redis. With the number of chunks it bounds the buffer of a stream. */
const CHUNK_BYTES_MAX = 64 * 1024;

/**
 * Passes the log of an agent to its reader, at the reader's pace. Small chunks are joined, because
 * each one costs a command of Redis. Only the agent knows the stream's id, which is random.
 * Throws not-found if the reader has disconnected.
 */
export async function receiveStream(
  ctx: ControlContext,
  streamId: string,
  chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  error: string | undefined,
): Promise<void> {
  try {
    // Reports that the agent has connected: a quiet container may send no chunk for long.
    await ctx.streams.append(streamId, new Uint8Array());
    for await (const chunk of batchBytes(chunks, CHUNK_BYTES_MAX)) {
      for (let start = 0; start < chunk.length; start += CHUNK_BYTES_MAX) {
        await ctx.streams.append(streamId, chunk.subarray(start, start + CHUNK_BYTES_MAX));
      }
    }
  } catch (cause) {
    if (cause instanceof AppError) throw cause;
    await ctx.streams.end(streamId, "The agent of the host disconnected.");
    throw new AppError("malformed-request", { detail: "The body ended early.", cause });
  }
  await ctx.streams.end(streamId, error);
}
