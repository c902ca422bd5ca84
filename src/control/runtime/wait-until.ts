import { setTimeout as delay } from "node:timers/promises";
import type { ControlContext, SignalChannel } from "./context.ts";

/** Signals may be lost, so no wait between two reads is longer than this. */
const POLL_MS_MAX = 1_000;
/** A large service is signaled thousands of times while it scales: its waiters read no more often than this. */
const READ_GAP_MS = 100;

/**
 * Reads at every signal on `channel`, and at least once a second, until `look` gives isDone or the time is up; gives the
 * last value. Two reads are at least 100 ms apart. Also ends, with the last value, when `signal` aborts. It subscribes
 * before it reads, so that no change is missed in between.
 */
export async function pollUntil<T>(
  ctx: ControlContext,
  channel: SignalChannel,
  timeoutMs: number,
  signal: AbortSignal,
  look: () => Promise<{ isDone: boolean; value: T }>,
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
      const seen = await look();
      if (seen.isDone || woken === undefined || signal.aborted) return seen.value;
      await woken;
    } finally {
      listening.abort();
    }
    const gapMs = Math.min(READ_GAP_MS, remainingMs) - (performance.now() - readAt);
    if (gapMs > 0) await delay(gapMs, undefined, { signal }).catch(() => undefined);
  }
}
