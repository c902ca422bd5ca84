import type { BerthEvent } from "../../contracts/api/events.ts";
import {
  readEventsAfter as readEventRows,
  type StreamPosition,
} from "../../db/queries/events/read-events.ts";
import type { ControlContext } from "../runtime/context.ts";
import { type EventQuery, toEventFilter } from "./list-events.ts";
import { badCursor } from "../runtime/paging.ts";

/**
 * The events after `cursor`, oldest first, each with the cursor that comes after it, and the cursor to go on from.
 * Without a cursor: none, and the cursor of now. Each committed event is given exactly once to who follows the cursors,
 * also when its transaction commits late; the price is that an event waits for older transactions to finish.
 * Throws invalid-request for a cursor that is out of range.
 */
export async function readEventsAfter(
  ctx: ControlContext,
  scope: string | null,
  filter: EventQuery,
  cursor: string | undefined,
  limit: number,
): Promise<{ events: { event: BerthEvent; cursor: string }[]; cursor: string }> {
  const position = cursor === undefined ? undefined : toPosition(cursor);
  const read = await readEventRows(ctx.db, scope, toEventFilter(filter), position, limit);
  return {
    events: read.events.map((entry) => ({
      event: entry.event,
      cursor: toCursor(entry.position),
    })),
    cursor: toCursor(read.position),
  };
}

function toCursor(position: StreamPosition): string {
  return `${position.xid}.${position.id}`;
}

/** Both halves must fit their column: 64 bits without and with a sign. */
function toPosition(cursor: string): StreamPosition {
  const [xid, id] = cursor.split(".");
  if (xid === undefined || id === undefined || !/^\d{1,20}$/.test(xid) || !/^\d{1,19}$/.test(id)) {
    throw badCursor("after");
  }
  if (BigInt(xid) >= 2n ** 64n || BigInt(id) >= 2n ** 63n) throw badCursor("after");
  return { xid, id };
}
