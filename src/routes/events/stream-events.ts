import type { ControlContext } from "../../control/runtime/context.ts";
import type { EventQuery } from "../../control/events/list-events.ts";
import { AppError } from "../../contracts/common/app-error.ts";
import type { EventTail } from "../../control/events/event-tail.ts";
import type { EventsAfter } from "../../control/events/stream-events.ts";
import { createEventStream, defaultStreamLimits, type StreamLimits } from "../http/event-stream.ts";

const EVENTS_PER_READ_MAX = 200;
const READ_GAP_MS = 100;

/**
 * Streams events as server-sent events. The id of each message is the cursor from which a reader
 * continues. The first read precedes the response, so that a bad cursor gets an error status.
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
  const first = await tail.read(ctx, scope, filter, after, EVENTS_PER_READ_MAX);
  const stopFollowing = tail.follow();
  const onEnd = (): void => {
    stopFollowing();
    limits.onEnd?.();
  };
  let { cursor } = first;

  /** A stream that the pool rejects reads again after the next wait. */
  const readUnlessShed = async (from: string): Promise<EventsAfter> => {
    try {
      return await tail.read(ctx, scope, filter, from, EVENTS_PER_READ_MAX);
    } catch (error) {
      if (!(error instanceof AppError) || error.code !== "overloaded") throw error;
      return { events: [], cursor: from, isBehind: false };
    }
  };

  const source = {
    readGapMs: READ_GAP_MS,
    lastId: () => cursor,
    waitForNews: (timeoutMs: number, ended: AbortSignal) => tail.waitForEvents(timeoutMs, ended),
    read: async () => {
      const read = await readUnlessShed(cursor);
      cursor = read.cursor;
      return { text: read.events.map(toMessage).join(""), isBehind: read.isBehind };
    },
  };
  // The first message has an id even without an event.
  const start = `retry: 1000\nid: ${after ?? cursor}\n\n` + first.events.map(toMessage).join("");
  return createEventStream(start, source, signal, { ...limits, onEnd });
}

function toMessage(entry: { event: unknown; cursor: string }): string {
  return `id: ${entry.cursor}\ndata: ${JSON.stringify(entry.event)}\n\n`;
}
