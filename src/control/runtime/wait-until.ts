import { setTimeout as delay } from "node:timers/promises";
import type { ControlContext, SignalChannel } from "./context.ts";

/** The longest wait between two reads, as signals may be lost. */
const POLL_MS_MAX = 1_000;
/** The shortest time between two reads, as a large service causes thousands of signals. */
const READ_GAP_MS = 100;

/**
 * Reads at each signal on `channel`, and at least once a second, until `read` returns isDone, the
 * time is over or `signal` aborts. Returns the last value. Two reads are at least 100 ms apart. It
 * subscribes before each read, so that it misses no change.
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
    try {
      const seen = await read();
      if (seen.isDone || woken === undefined || signal.aborted) return seen.value;
      await woken;
    } finally {
      listening.abort();
    }
    const gapMs = Math.min(READ_GAP_MS, remainingMs) - (performance.now() - readAt);
    if (gapMs > 0) await delay(gapMs, undefined, { signal }).catch(() => undefined);
  }
}
