import type { StreamPosition } from "../../db/queries/events/read-events.ts";
import { badCursor } from "../runtime/paging.ts";

/** The cursor of a stream: a transaction id, an event id, and their server and time. */
export function toCursor({ xid, id, origin }: StreamPosition): string {
  return origin === undefined
    ? `${xid}.${id}`
    : `${xid}.${id}.${origin.serverEpoch}.${Math.trunc(origin.atMs)}`;
}

/** Parses a cursor. Its first numbers must fit in xid8 and bigint. Throws invalid-request. */
export function toPosition(cursor: string): StreamPosition {
  const match = /^(\d{1,20})\.(\d{1,19})(?:\.(\d{1,20})\.(\d{1,15}))?$/.exec(cursor);
  const [, xid, id, serverEpoch, atMs] = match ?? [];
  if (xid === undefined || id === undefined) throw badCursor("after");
  if (BigInt(xid) >= 2n ** 64n || BigInt(id) >= 2n ** 63n) throw badCursor("after");
  if (serverEpoch === undefined) return { xid, id };
  return { xid, id, origin: { serverEpoch, atMs: Number(atMs) } };
}

/** Whether the first cursor is before the second one. Both are of one server. */
export function isBefore(cursor: string, other: string): boolean {
  const [a, b] = [toPosition(cursor), toPosition(other)];
  const [xidA, xidB] = [BigInt(a.xid), BigInt(b.xid)];
  return xidA === xidB ? BigInt(a.id) < BigInt(b.id) : xidA < xidB;
}

/** Whether the cursors are of one server. A cursor of an earlier release is of any. */
export function areOfOneServer(cursor: string, other: string): boolean {
  const [a, b] = [toPosition(cursor).origin, toPosition(other).origin];
  return a === undefined || b === undefined || a.serverEpoch === b.serverEpoch;
}
