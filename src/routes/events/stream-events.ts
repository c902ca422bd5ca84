import { setTimeout as delay } from "node:timers/promises";
import type { ControlContext } from "../../control/runtime/context.ts";
import type { EventQuery } from "../../control/events/list-events.ts";
import { AppError } from "../../contracts/common/app-error.ts";
import type { EventTail } from "../../control/events/event-tail.ts";
import type { EventsAfter } from "../../control/events/stream-events.ts";

export interface StreamLimits {
  /**
   * A stream ends after this time, and its reader reconnects with the last id. So a revoked token
   * loses access.
   */
  lifetimeMs: number;
  /** A stream sends a comment after this time without an event, so that proxies do not close it. */
  heartbeatMs: number;
  /** Called when the stream has ended. It may be called again. */
  onEnd?: () => void;
}
export const defaultStreamLimits: StreamLimits = { lifetimeMs: 600_000, heartbeatMs: 15_000 };

const EVENTS_PER_READ_MAX = 200;
/** Signals may be lost, so no wait between two reads is longer than this. */
const POLL_MS_MAX = 1_000;
const READ_GAP_MS = 100;

/**
 * Streams events as server-sent events with backpressure. The id of each message is the cursor from
 * which a reader continues. The first read precedes the response, so that a bad cursor gets an
 * error status. The stream ends when the reader aborts, or after its lifetime.
 *
 * All streams of a process share `tail`. A stream reads the database only until it has caught up.
 */
export async function streamEvents(
  ctx: ControlContext,
  tail: EventTail,
  scope: string | null,
  filter: EventQuery,
  after: string | undefined,
  signal: AbortSignal,
  limits: StreamLimits = defaultStreamLimits,
): Promise<ReadableStream<Uint8Array>> {
  const closing = new AbortController();
  const ended = AbortSignal.any([signal, closing.signal, AbortSignal.timeout(limits.lifetimeMs)]);
  const encoder = new TextEncoder();
  const first = await tail.read(ctx, scope, filter, after, EVENTS_PER_READ_MAX);
  const stopFollowing = tail.follow();
  const onEnd = (): void => {
    stopFollowing();
    limits.onEnd?.();
  };
  if (ended.aborted) onEnd();
  else ended.addEventListener("abort", onEnd, { once: true });
  let cursor = first.cursor;
  // The first message has an id even without an event, so that an early disconnect loses no event.
  let ahead: string | undefined =
    `retry: 1000\nid: ${after ?? cursor}\n\n` + first.events.map(toMessage).join("");
  let lastSentAtMs = performance.now();

  /** A stream that the pool rejects reads again after the next wait. */
  const readUnlessShed = async (from: string): Promise<EventsAfter> => {
    try {
      return await tail.read(ctx, scope, filter, from, EVENTS_PER_READ_MAX);
    } catch (error) {
      if (!(error instanceof AppError) || error.code !== "overloaded") throw error;
      return { events: [], cursor: from, isBehind: false };
    }
  };

  const next = async (): Promise<string | undefined> => {
    while (!ended.aborted) {
      const listening = new AbortController();
      const anyEnd = AbortSignal.any([ended, listening.signal]);
      const woken = tail.waitForEvents(POLL_MS_MAX, anyEnd);
      try {
        const read = await readUnlessShed(cursor);
        cursor = read.cursor;
        if (read.events.length > 0) return read.events.map(toMessage).join("");
        if (performance.now() - lastSentAtMs >= limits.heartbeatMs)
          return `: heartbeat\nid: ${cursor}\n\n`;
        if (read.isBehind) continue;
        await woken;
      } finally {
        listening.abort();
      }
      await delay(READ_GAP_MS, undefined, { signal: ended }).catch(() => undefined);
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

function toMessage(entry: { event: unknown; cursor: string }): string {
  return `id: ${entry.cursor}\ndata: ${JSON.stringify(entry.event)}\n\n`;
}
