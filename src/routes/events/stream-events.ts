import { setTimeout as delay } from "node:timers/promises";
import type { ControlContext } from "../../control/runtime/context.ts";
import type { EventQuery } from "../../control/events/list-events.ts";
import { AppError } from "../../contracts/common/app-error.ts";
import { type EventsAfter, readEventsAfter } from "../../control/events/stream-events.ts";

export interface StreamLimits {
  /** A stream ends after this; its reader goes on with the last id. So a revoked token is shut out by then. */
  lifetimeMs: number;
  /** A comment is sent after this long without an event, so that nobody on the way takes the connection for dead. */
  heartbeatMs: number;
}
export const defaultStreamLimits: StreamLimits = { lifetimeMs: 600_000, heartbeatMs: 15_000 };

const EVENTS_PER_READ_MAX = 200;
/** Signals may be lost, so no wait between two reads is longer than this. */
const POLL_MS_MAX = 1_000;
const READ_GAP_MS = 100;

/**
 * Events as server-sent events, each with the cursor to go on from as its id. Reads no faster than its reader does.
 * The first read is done before this resolves, so that a bad cursor is still answered with a status. Ends when the
 * reader aborts or the lifetime is over; a fault of the database breaks it off, and the reader comes again.
 */
export async function streamEvents(
  ctx: ControlContext,
  scope: string | null,
  filter: EventQuery,
  after: string | undefined,
  signal: AbortSignal,
  limits: StreamLimits = defaultStreamLimits,
): Promise<ReadableStream<Uint8Array>> {
  const closing = new AbortController();
  const ended = AbortSignal.any([signal, closing.signal, AbortSignal.timeout(limits.lifetimeMs)]);
  const encoder = new TextEncoder();
  const first = await readEventsAfter(ctx, scope, filter, after, EVENTS_PER_READ_MAX);
  let cursor = first.cursor;
  // Without an event yet the id is sent all the same: who is cut off before the first one loses none.
  let ahead: string | undefined =
    `retry: 1000\nid: ${after ?? cursor}\n\n` + first.events.map(toMessage).join("");
  let lastSentAt = Date.now();

  /** Many streams read at the same signal: one that the connection pool refuses reads at the next. */
  const readUnlessShed = async (from: string): Promise<EventsAfter> => {
    try {
      return await readEventsAfter(ctx, scope, filter, from, EVENTS_PER_READ_MAX);
    } catch (error) {
      if (!(error instanceof AppError) || error.code !== "overloaded") throw error;
      return { events: [], cursor: from, isBehind: false };
    }
  };

  const next = async (): Promise<string | undefined> => {
    while (!ended.aborted) {
      const listening = new AbortController();
      const anyEnd = AbortSignal.any([ended, listening.signal]);
      const woken = ctx.signals.waitFor("events", POLL_MS_MAX, anyEnd);
      try {
        const read = await readUnlessShed(cursor);
        cursor = read.cursor;
        if (read.events.length > 0) return read.events.map(toMessage).join("");
        if (Date.now() - lastSentAt >= limits.heartbeatMs) return `: heartbeat\nid: ${cursor}\n\n`;
        if (read.isBehind) continue;
        await woken;
      } finally {
        listening.abort();
      }
      // A busy fleet signals events all the time. The jitter spreads streams that one signal has woken.
      await delay(READ_GAP_MS * (1 + Math.random()), undefined, { signal: ended }).catch(
        () => undefined,
      );
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
      lastSentAt = Date.now();
      controller.enqueue(encoder.encode(text));
    },
    cancel: () => closing.abort(),
  });
}

function toMessage(entry: { event: unknown; cursor: string }): string {
  return `id: ${entry.cursor}\ndata: ${JSON.stringify(entry.event)}\n\n`;
}
