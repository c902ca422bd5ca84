import { setTimeout as delay } from "node:timers/promises";
import { Waiters } from "../../lib/async/waiters.ts";
import type { ControlContext } from "../runtime/context.ts";
import type { EventQuery } from "./list-events.ts";
import { type EventsAfter, readEventsAfter, type StreamedEvent } from "./stream-events.ts";
import { areOfOneServer, isBefore } from "./stream-position.ts";

/** Events in memory. A reader that falls behind them reads the database. */
const EVENTS_CACHED_MAX = 2_000;
const EVENTS_PER_READ_MAX = 500;
/** Signals may be lost, so no wait between two reads is longer than this. */
const POLL_MS_MAX = 1_000;
const READ_GAP_MS = 100;

/**
 * Follows the events for all streams of this process. One loop reads new events once and keeps the
 * newest 2,000 in memory. Streams read there, each with its own filter, so the number of streams
 * does not increase the load of the database. The loop runs while at least one stream follows.
 *
 * A stream that is behind the cached events reads the database with its own context, like a stream
 * at its start. So memory is bounded however slow a reader is, and a slow reader loses no event.
 */
export class EventTail {
  readonly #ctx: ControlContext;
  readonly #readDatabase: typeof readEventsAfter;
  readonly #waiters = new Waiters();
  #followers = 0;
  #stopping: AbortController | undefined;
  /** The newest events, oldest first. */
  #events: StreamedEvent[] = [];
  /** The cursor before the first cached event, and the one after the last. */
  #range: { start: string; end: string } | undefined;

  /** @param readDatabase a function that reads as `readEventsAfter` does */
  constructor(ctx: ControlContext, readDatabase: typeof readEventsAfter = readEventsAfter) {
    this.#ctx = ctx;
    this.#readDatabase = readDatabase;
  }

  /** Starts to follow. Call the returned function once when the stream ends. */
  follow(): () => void {
    this.#followers += 1;
    if (!this.#stopping) {
      this.#stopping = new AbortController();
      void this.#run(this.#stopping.signal);
    }
    return () => {
      this.#followers -= 1;
      if (this.#followers > 0) return;
      this.#stopping?.abort();
      this.#stopping = undefined;
      this.#events = [];
      this.#range = undefined;
    };
  }

  /** Reads as `readEventsAfter` does: from memory, or from the database when the cursor is old. */
  async read(
    ctx: ControlContext,
    scope: string | null,
    filter: EventQuery,
    cursor: string | undefined,
    limit: number,
  ): Promise<EventsAfter> {
    const range = this.#range;
    const isCached =
      cursor !== undefined &&
      range !== undefined &&
      areOfOneServer(cursor, range.end) &&
      !isBefore(cursor, range.start);
    if (!isCached) return this.#readDatabase(ctx, scope, filter, cursor, limit);
    const unread = this.#events.slice(this.#countUpTo(cursor));
    const matching = unread.filter((entry) => matches(entry, scope, filter));
    const events = matching.slice(0, limit);
    const last = events.at(-1);
    if (last && matching.length > limit) return { events, cursor: last.cursor, isBehind: true };
    return { events, cursor: isBefore(cursor, range.end) ? range.end : cursor, isBehind: false };
  }

  /** Resolves when new events are in memory, after `timeoutMs`, or when `signal` aborts. */
  waitForEvents(timeoutMs: number, signal: AbortSignal): Promise<void> {
    return this.#waiters.wait(timeoutMs, signal);
  }

  /** The number of cached events that are not after the cursor, by binary search. */
  #countUpTo(cursor: string): number {
    let low = 0;
    let high = this.#events.length;
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      const entry = this.#events[middle];
      if (entry && isBefore(cursor, entry.cursor)) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  async #run(stopping: AbortSignal): Promise<void> {
    let isFailing = false;
    while (!stopping.aborted) {
      const woken = this.#ctx.signals.waitFor("events", POLL_MS_MAX, stopping);
      try {
        if (!(await this.#readNext(stopping))) await woken;
        isFailing = false;
      } catch (error) {
        if (!isFailing) this.#ctx.log.warn({ err: error }, "cannot read events for streams");
        isFailing = true;
        await delay(POLL_MS_MAX, undefined, { signal: stopping }).catch(() => undefined);
      }
      await delay(READ_GAP_MS, undefined, { signal: stopping }).catch(() => undefined);
    }
  }

  /** Reads the events after the cached ones. Returns whether more are ready. */
  async #readNext(stopping: AbortSignal): Promise<boolean> {
    const from = this.#range?.end;
    const read = await this.#readDatabase(this.#ctx, null, {}, from, EVENTS_PER_READ_MAX);
    if (stopping.aborted) return false;
    if (from !== undefined && !areOfOneServer(from, read.cursor)) {
      // The cached events have other positions on the new server. All streams read the database.
      this.#events = [];
      this.#range = { start: read.cursor, end: read.cursor };
      this.#waiters.wakeAll();
      return read.isBehind;
    }
    const dropped = this.#events.length + read.events.length - EVENTS_CACHED_MAX;
    const events = [...this.#events, ...read.events];
    const firstDropped = dropped > 0 ? events[dropped - 1] : undefined;
    this.#events = dropped > 0 ? events.slice(dropped) : events;
    this.#range = {
      start: firstDropped?.cursor ?? this.#range?.start ?? read.cursor,
      end: read.cursor,
    };
    if (read.events.length > 0) this.#waiters.wakeAll();
    return read.isBehind;
  }
}

function matches(
  { event, tenantId }: StreamedEvent,
  scope: string | null,
  { service, set, host, kind }: EventQuery,
): boolean {
  return (
    (scope === null || tenantId === scope) &&
    (service === undefined || event.service === service) &&
    (set === undefined || event.setId === set) &&
    (host === undefined || event.hostId === host) &&
    (kind === undefined || event.kind === kind)
  );
}
