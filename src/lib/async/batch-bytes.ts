/**
 * Joins the chunks that have arrived into one of about `bytesMax`. Many small chunks then cost the
 * consumer as little as a few large ones. A chunk waits for one turn of the event loop at most.
 *
 * Reads at most one chunk ahead. An error of the source follows after the bytes before it. If the
 * consumer stops early, the source closes without a wait for its next chunk.
 */
export async function* batchBytes(
  source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  bytesMax: number,
): AsyncGenerator<Uint8Array> {
  const iterator = iterate(source);
  try {
    let next = settle(iterator.next());
    for (;;) {
      const chunks: Uint8Array[] = [];
      let bytes = 0;
      let read: Read | undefined = await next;
      while (read?.value) {
        chunks.push(read.value);
        bytes += read.value.length;
        next = settle(iterator.next());
        read = bytes < bytesMax ? await Promise.race([next, nextTurn()]) : undefined;
      }
      if (chunks.length > 0)
        yield chunks.length === 1 && chunks[0] ? chunks[0] : join(chunks, bytes);
      if (read && "error" in read) throw read.error;
      if (read) return;
    }
  } finally {
    void iterator.return(undefined).catch(() => undefined);
  }
}

/** The result of one read: a chunk, an error, or neither at the end. */
interface Read {
  value?: Uint8Array;
  error?: unknown;
}

function settle(result: Promise<IteratorResult<Uint8Array, unknown>>): Promise<Read> {
  return result.then(
    (item) => (item.done === true ? {} : { value: item.value }),
    (error: unknown) => ({ error }),
  );
}

async function* iterate(
  source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  yield* source;
}

function join(chunks: readonly Uint8Array[], bytes: number): Uint8Array {
  const joined = new Uint8Array(bytes);
  let at = 0;
  for (const chunk of chunks) {
    joined.set(chunk, at);
    at += chunk.length;
  }
  return joined;
}

function nextTurn(): Promise<undefined> {
  return new Promise((resolve) => setTimeout(() => resolve(undefined), 0));
}
