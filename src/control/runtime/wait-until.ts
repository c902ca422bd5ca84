import { setTimeout as delay } from "node:timers/promises";
import type { ControlContext, SignalChannel } from "./context.ts";

/** The longest wait between two reads, because signals may be lost. */
const POLL_MS_MAX = 1_000;
/** The shortest time between two reads, because a large service causes thousands of signals. */
const READ_GAP_MS = 100;
/** A slow read is repeated later, so that a wait uses at most a fifth of a connection. */
const PAUSE_PER_READ = 5;

/**
 * Reads at each signal on `channel`, and at least once a second, until `read` returns isDone, the
 * time is over or `signal` aborts. Returns the last value. Two reads are at least 100 ms apart,
 * and five times the duration of a slow read, up to a second. It subscribes before each read, so
 * that it misses no change.
 */
export async function pollUntil<T>(
  ctx: ControlContext,
  channel: SignalChannel,
  timeoutMs: number,
  signal: AbortSignal,
  read: () => Promise<{ isDone: boolean; value: T }>,
): Promise<T> {
  const deadlineAt = performance.now() + timeoutMs;
  for (;;) {
    const readAt = performance.now();
    const remainingMs = deadlineAt - readAt;
    const listening = new AbortController();
    const woken =
      remainingMs > 0
        ? ctx.signals.waitFor(
            channel,
            Math.min(remainingMs, POLL_MS_MAX),
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
    const pauseMs = Math.max(READ_GAP_MS, Math.min(readMs * PAUSE_PER_READ, POLL_MS_MAX));
    const gapMs = Math.min(pauseMs, remainingMs) - (performance.now() - readAt);
    if (gapMs > 0) await delay(gapMs, undefined, { signal }).catch(() => undefined);
  }
}
