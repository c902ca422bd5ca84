export interface ByteStreamOptions {
  /**
   * Returns the stream after this time even without a chunk. If it is undefined, waits for the
   * first.
   */
  firstChunkMs: number | undefined;
  /** Called when the reader disconnects. */
  onCancel: () => void;
}

/**
 * Converts chunks to a stream with backpressure. Throws an error that occurs before the first
 * chunk, so that the response can have its status. A later error aborts the stream.
 */
export async function toByteStream(
  chunks: AsyncIterable<Uint8Array>,
  options: ByteStreamOptions,
): Promise<ReadableStream<Uint8Array>> {
  const iterator = chunks[Symbol.asyncIterator]();
  let ahead: Promise<IteratorResult<Uint8Array>> | undefined = iterator.next();
  await settledOrLate(ahead, options.firstChunkMs);
  return new ReadableStream<Uint8Array>({
    pull: async (controller) => {
      const next = ahead ?? iterator.next();
      ahead = undefined;
      const { done, value } = await next;
      if (done === true) controller.close();
      else controller.enqueue(value);
    },
    cancel: async () => {
      options.onCancel();
      await iterator.return?.();
    },
  });
}

async function settledOrLate(first: Promise<unknown>, lateMs: number | undefined): Promise<void> {
  if (lateMs === undefined) {
    await first;
    return;
  }
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, lateMs);
  });
  try {
    await Promise.race([first, late]);
  } finally {
    clearTimeout(timer);
  }
}
