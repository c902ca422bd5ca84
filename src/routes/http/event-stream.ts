import { setTimeout as delay } from "node:timers/promises";
import type { ApiContext } from "./api-env.ts";
import { onAbort } from "../../lib/async/abort.ts";
import { createPermitCheck } from "./authorize.ts";
import type { Api } from "./operation.ts";

export interface StreamLimits {
  /** A stream ends after this time, and its reader reconnects with the last id. */
  lifetimeMs: number;
  /** A stream without messages sends a comment after this time, so that proxies keep it open. */
  heartbeatMs: number;
  /** Called at each heartbeat interval. A stream ends when it resolves to false. */
  isPermitted?: () => Promise<boolean>;
  /** Called when the stream has ended. It may be called again. */
  onEnd?: () => void;
}
export const defaultStreamLimits: StreamLimits = { lifetimeMs: 600_000, heartbeatMs: 15_000 };

/** The parts of the API that streams need. */
export type StreamingApi = Pick<Api, "ctx" | "longRequests" | "streamsEnd">;

/** Messages may be read this long after a lost signal. */
const POLL_MS_MAX = 1_000;

export interface ReadMessages {
  /** Server-sent messages. Empty if there are none. */
  text: string;
  /** More messages are ready: read again without a wait. */
  isBehind?: boolean;
  /** The stream ends after these messages. */
  isLast?: boolean;
}

/** The source of the messages of one stream. */
export interface MessageSource {
  /** The shortest time between two reads. */
  readGapMs: number;
  /** The id from which a reader continues after the messages that it has. */
  lastId(): string;
  /** Resolves at news, after `timeoutMs`, or when `signal` aborts. Called before each read. */
  waitForNews(timeoutMs: number, signal: AbortSignal): Promise<void>;
  /** Reads the messages since the last read. */
  read(): Promise<ReadMessages>;
}

/**
 * Answers with a stream of server-sent events. It counts among the long requests of its caller. It
 * ends after ten minutes, at the shutdown of the process, or about a heartbeat interval after the
 * token is revoked or has expired.
 * @param open creates the stream, or throws the error of the response
 */
export async function answerWithStream(
  { ctx, longRequests, streamsEnd }: StreamingApi,
  c: ApiContext,
  open: (signal: AbortSignal, limits: StreamLimits) => Promise<ReadableStream<Uint8Array>>,
): Promise<Response> {
  const release = longRequests.enter(c);
  const stopping = new AbortController();
  const unlisten = [c.req.raw.signal, streamsEnd].map((signal) =>
    onAbort(signal, () => stopping.abort(new Error("the stream ends"))),
  );
  const onEnd = (): void => {
    for (const remove of unlisten) remove();
    release();
  };
  const limits = { ...defaultStreamLimits, isPermitted: createPermitCheck(ctx, c), onEnd };
  const stream = await open(stopping.signal, limits).catch((error: unknown) => {
    onEnd();
    throw error;
  });
  return c.newResponse(stream, 200, {
    "Content-Type": "text/event-stream; charset=utf-8",
    "X-Accel-Buffering": "no",
  });
}

export function acceptsStream(c: ApiContext): boolean {
  return /\btext\/event-stream\b/i.test(c.req.header("accept") ?? "");
}

/**
 * Creates a stream of server-sent events with backpressure: it reads the source only when its
 * reader has taken the previous messages. It ends when the reader aborts, or at one of its limits.
 * @param first the first messages, with an id, so that an early disconnect loses nothing
 */
export function createEventStream(
  first: string,
  source: MessageSource,
  signal: AbortSignal,
  limits: StreamLimits,
): ReadableStream<Uint8Array> {
  const closing = new AbortController();
  const ended = AbortSignal.any([signal, closing.signal, AbortSignal.timeout(limits.lifetimeMs)]);
  const onEnd = (): void => limits.onEnd?.();
  if (ended.aborted) onEnd();
  else ended.addEventListener("abort", onEnd, { once: true });
  const encoder = new TextEncoder();
  let ahead: string | undefined = first;
  let lastSentAtMs = performance.now();
  let checkedAtMs = lastSentAtMs;

  const isPermitted = async (): Promise<boolean> => {
    if (performance.now() - checkedAtMs < limits.heartbeatMs) return true;
    checkedAtMs = performance.now();
    return (await limits.isPermitted?.()) ?? true;
  };

  const next = async (): Promise<string | undefined> => {
    while (!ended.aborted) {
      if (!(await isPermitted())) {
        closing.abort();
        break;
      }
      const listening = new AbortController();
      const woken = source.waitForNews(POLL_MS_MAX, AbortSignal.any([ended, listening.signal]));
      try {
        const { text, isBehind, isLast } = await source.read();
        if (isLast) closing.abort();
        if (text !== "") return text;
        if (performance.now() - lastSentAtMs >= limits.heartbeatMs)
          return `: heartbeat\nid: ${source.lastId()}\n\n`;
        if (isBehind) continue;
        await woken;
      } finally {
        listening.abort();
      }
      await delay(source.readGapMs, undefined, { signal: ended }).catch(() => undefined);
    }
    return undefined;
  };

  return new ReadableStream<Uint8Array>({
    pull: async (controller) => {
      const text = ahead ?? (await next());
      ahead = undefined;
      if (text === undefined) {
        controller.close();
        return;
      }
      lastSentAtMs = performance.now();
      controller.enqueue(encoder.encode(text));
    },
    cancel: () => closing.abort(),
  });
}
