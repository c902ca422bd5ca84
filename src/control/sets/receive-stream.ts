import { AppError } from "../../contracts/common/app-error.ts";
import type { ControlContext } from "../runtime/context.ts";

/** One piece is at most this long, so that buffers on the way are bounded in bytes. */
const CHUNK_BYTES_MAX = 64 * 1024;

/**
 * Passes a log from its host's agent on to its reader, at the reader's pace. The id of a stream is known only to the
 * agent that was asked for it, and is unguessable. Throws not-found when nobody reads any more.
 */
export async function receiveStream(
  ctx: ControlContext,
  streamId: string,
  chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  error: string | undefined,
): Promise<void> {
  try {
    // Says that the agent has come: of a container that writes nothing there may be no chunk for long.
    await ctx.streams.append(streamId, new Uint8Array());
    for await (const chunk of chunks) {
      for (let start = 0; start < chunk.length; start += CHUNK_BYTES_MAX) {
        await ctx.streams.append(streamId, chunk.subarray(start, start + CHUNK_BYTES_MAX));
      }
    }
  } catch (cause) {
    if (cause instanceof AppError) throw cause;
    await ctx.streams.end(streamId, "The host's agent broke off.");
    throw new AppError("malformed-request", { detail: "The body ended early.", cause });
  }
  await ctx.streams.end(streamId, error);
}
