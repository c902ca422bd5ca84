import { setTimeout as delay } from "node:timers/promises";
import type { ControlContext, SignalChannel, Signals } from "./context.ts";

/** The longest wait between two reads, because signals may be lost. */
const POLL_MS_MAX = 1_000;
/** The shortest time between two reads, because a large service causes thousands of signals. */
const READ_GAP_MS = 100;
/** The same time for the first reads. The start of one set causes about five signals. */
const FIRST_READS = 10;
const FIRST_READS_GAP_MS = 10;
/** A slow read is repeated later, so that a wait uses at most a fifth of a connection. */
const PAUSE_PER_READ = 5;

interface PollLimits {
  /** The longest wait between two reads. */
  pollMsMax?: number;
  /** The shortest time between two reads. Default: 10 ms for the first ten, then 100 ms. */
  readGapMs?: number;
}

/**
 * Reads at each signal on `channel`, and at least once a second, until `read` returns isDone, the
 * time is over or `signal` aborts. Returns the last value. The first ten reads are at least 10 ms
 * apart, others 100 ms. After a slow read the gap is five times its duration, up to a second. It
 * subscribes before each read, so that it misses no change. Throws the errors of `read`.
 */
export async function pollUntil<T>(
  ctx: ControlContext,
  channel: SignalChannel,
  timeoutMs: number,
  signal: AbortSignal,
  read: () => Promise<{ isDone: boolean; value: T }>,
  { pollMsMax = POLL_MS_MAX, readGapMs }: PollLimits = {},
): Promise<T> {
  const deadlineAt = performance.now() + timeoutMs;
  for (let reads = 1; ; reads++) {
    const readAt = performance.now();
    const remainingMs = deadlineAt - readAt;
    const listening = new AbortController();
    const woken =
      remainingMs > 0
        ? ctx.signals.waitFor(
            channel,
            Math.min(remainingMs, pollMsMax),
            AbortSignal.any([signal, listening.signal]),
          )
        : undefined;
    let readMs = 0;
    try {
      const seen = await read();
      readMs = performance.now() - readAt;
      if (seen.isDone || woken === undefined || signal.aborted) return seen.value;
      await woken;
    } finally {
      listening.abort();
    }
    const leastMs = readGapMs ?? (reads < FIRST_READS ? FIRST_READS_GAP_MS : READ_GAP_MS);
    const pauseMs = Math.max(leastMs, Math.min(readMs * PAUSE_PER_READ, POLL_MS_MAX));
    const gapMs = Math.min(pauseMs, remainingMs) - (performance.now() - readAt);
    if (gapMs > 0) await delay(gapMs, undefined, { signal }).catch(() => undefined);
  }
}

/**
 * Resolves with true at the first signal of any channel, or with false after `timeoutMs` or an
 * abort. The caller aborts `signal` afterwards, which ends the other waits.
 */
export async function waitForAny(
  signals: Signals,
  channels: readonly SignalChannel[],
  timeoutMs: number,
  signal: AbortSignal,
): Promise<boolean> {
  return Promise.race(channels.map((channel) => signals.waitFor(channel, timeoutMs, signal)));
}
