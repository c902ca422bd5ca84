export interface ByteStreamOptions {
  /** Gives the stream after this time though nothing came yet. Undefined: waits for the first chunk. */
  firstChunkMs: number | undefined;
  /** Called when the reader has gone. */
  onCancel: () => void;
}

/**
 * Chunks as a stream that is read at its reader's pace. What goes wrong before the first chunk is thrown, so that it can
 * still be answered with a status; what goes wrong later breaks the stream off.
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
