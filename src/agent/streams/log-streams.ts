import type { LogStreamRequest } from "../../contracts/agent-protocol/log-stream-request.ts";
import { linkAbort } from "../../lib/async/abort.ts";
import type { Log } from "../../lib/log.ts";
import { type Clock, sleep } from "../base/clock.ts";
import type { ControlPlane } from "../ports/control-plane.ts";
import type { SetPort } from "../ports/set-port.ts";

/** An upload waits this long for its first chunk, or for the error of a log that cannot open. */
const FIRST_CHUNK_MS = 1_000;

export interface LogStreamsOptions {
  port: SetPort;
  api: ControlPlane;
  clock: Clock;
  log: Log;
  streamsMax: number;
}

/**
 * Streams containers' logs to readers. Each stream runs until the log ends, the reader disconnects,
 * or the agent stops.
 */
export class LogStreams {
  readonly #options: LogStreamsOptions;
  readonly #open = new Map<string, Promise<void>>();

  constructor(options: LogStreamsOptions) {
    this.#options = options;
  }

  serve(requests: readonly LogStreamRequest[], signal: AbortSignal): void {
    for (const request of requests) {
      if (this.#open.has(request.streamId)) continue;
      const isFull = this.#open.size >= this.#options.streamsMax;
      const sent = this.#send(request, isFull, signal).finally(() =>
        this.#open.delete(request.streamId),
      );
      this.#open.set(request.streamId, sent);
    }
  }

  /** Resolves when no stream is open. The signal of `serve` ends streams that follow. */
  async settled(): Promise<void> {
    await Promise.all(this.#open.values());
  }

  async #send(request: LogStreamRequest, isFull: boolean, signal: AbortSignal): Promise<void> {
    const { api, log, streamsMax } = this.#options;
    const { controller: abort, unlink } = linkAbort(signal);
    try {
      if (isFull) {
        const error = `The host already streams ${streamsMax} logs. Try again when one has ended.`;
        await api.uploadStream(request.streamId, { chunks: nothing(), error }, abort.signal);
        return;
      }
      await this.#upload(request, abort.signal);
    } catch (error) {
      if (!signal.aborted)
        log.warn({ err: error, streamId: request.streamId }, "log stream failed");
    } finally {
      unlink();
      abort.abort(new Error("the upload has ended"));
    }
  }

  /**
   * Reports a log that cannot be opened to the reader. A log that fails later aborts the upload.
   */
  async #upload(request: LogStreamRequest, signal: AbortSignal): Promise<void> {
    const { api, port, clock } = this.#options;
    const { streamId, setId, container, tail, follow } = request;
    const source = port.logs(setId, container, { tail, follow }, signal)[Symbol.asyncIterator]();
    const first = source.next().then(
      (result) => ({ result }),
      (error: unknown) => ({ error }),
    );
    // A quiet container may print nothing for long, so the upload starts without its first chunk.
    const early = await Promise.race([first, sleep(clock, FIRST_CHUNK_MS, signal)]);
    if (early && "error" in early) {
      const error = early.error instanceof Error ? early.error.message : String(early.error);
      await api.uploadStream(streamId, { chunks: nothing(), error }, signal);
      return;
    }
    await api.uploadStream(streamId, { chunks: continued(first, source) }, signal);
  }
}

type First = Promise<{ result: IteratorResult<Uint8Array> } | { error: unknown }>;

async function* continued(
  first: First,
  source: AsyncIterator<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  try {
    const opened = await first;
    if ("error" in opened) throw opened.error;
    for (let next = opened.result; next.done !== true; next = await source.next()) {
      yield next.value;
    }
  } finally {
    await source.return?.();
  }
}

// An upload without content; its query string has the error.
async function* nothing(): AsyncGenerator<Uint8Array> {
  // yields nothing
}
