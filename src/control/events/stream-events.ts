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
  /** The start of the next read. */
  cursor: string;
  /** More events are ready: read again without a wait. */
  isBehind: boolean;
}

/**
 * Reads events after `cursor`, the oldest first, each with its own cursor. Without a cursor it
 * returns no events, and the current cursor. A reader that follows the cursors gets each committed
 * event once, even if its transaction commits late. Therefore an event waits for older transactions
 * to end.
 *
 * One call passes a bounded number of events, so it may return none although `isBehind` is true.
 * Throws invalid-request for a cursor out of range.
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
