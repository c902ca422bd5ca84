import type { BerthEvent } from "../../contracts/api/events.ts";
import { readEventsAfter as readEventRows } from "../../db/queries/events/read-events.ts";
import type { ControlContext } from "../runtime/context.ts";
import { type EventQuery, toEventFilter } from "./list-events.ts";
import { toCursor, toPosition } from "./stream-position.ts";

export interface StreamedEvent {
  event: BerthEvent;
  tenantId: string | null;
  /** The cursor from which a reader continues after this event. */
  cursor: string;
}

export interface EventsAfter {
  events: StreamedEvent[];
  /** Where the next read goes on. */
  cursor: string;
  /** More events are ready: read on without waiting. */
  isBehind: boolean;
}

/**
 * Reads events after `cursor`, oldest first, each with the cursor that follows it. Without a cursor it gives none, and
 * the present cursor. A reader that follows the cursors gets each committed event once, also when its transaction
 * commits late; the price is that an event waits for older transactions to finish. One call passes over a bounded number
 * of events, so it may give none although `isBehind` is true. Throws invalid-request for a cursor out of range.
 */
export async function readEventsAfter(
  ctx: ControlContext,
  scope: string | null,
  filter: EventQuery,
  cursor: string | undefined,
  limit: number,
): Promise<EventsAfter> {
  const position = cursor === undefined ? undefined : toPosition(cursor);
  const read = await readEventRows(ctx.db, scope, toEventFilter(filter), position, limit);
  return {
    events: read.events.map((entry) => ({
      event: entry.event,
      tenantId: entry.tenantId,
      cursor: toCursor(entry.position),
    })),
    cursor: toCursor(read.position),
    isBehind: read.isBehind,
  };
}
