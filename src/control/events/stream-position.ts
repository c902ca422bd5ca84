import type { StreamPosition } from "../../db/queries/events/read-events.ts";
import { badCursor } from "../runtime/paging.ts";

/** The cursor of a stream: a transaction id and an event id. */
export function toCursor(position: StreamPosition): string {
  return `${position.xid}.${position.id}`;
}

/** Parses a cursor. Its two numbers must fit in xid8 and bigint. Throws invalid-request. */
export function toPosition(cursor: string): StreamPosition {
  const [xid, id] = cursor.split(".");
  if (xid === undefined || id === undefined || !/^\d{1,20}$/.test(xid) || !/^\d{1,19}$/.test(id)) {
    throw badCursor("after");
  }
  if (BigInt(xid) >= 2n ** 64n || BigInt(id) >= 2n ** 63n) throw badCursor("after");
  return { xid, id };
}

/** Whether the first cursor is before the second one. */
export function isBefore(cursor: string, other: string): boolean {
  const [a, b] = [toPosition(cursor), toPosition(other)];
  const [xidA, xidB] = [BigInt(a.xid), BigInt(b.xid)];
  return xidA === xidB ? BigInt(a.id) < BigInt(b.id) : xidA < xidB;
}
