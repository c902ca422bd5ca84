import type { ControlContext, SignalChannel } from "./context.ts";

/** Signals may be lost (Redis is only a jobQueue), so nobody waits longer than this between two looks. */
const POLL_MS_MAX = 1_000;

/**
 * Looks again at every signal on `channel`, and at least once a second, until `look` says that it is done or the time is
 * up; gives the last look. Also ends, with the last look, when `signal` aborts. Subscribes before it looks, so that no
 * change falls between.
 */
export async function pollUntil<T>(
  ctx: ControlContext,
  channel: SignalChannel,
  timeoutMs: number,
  signal: AbortSignal,
  look: () => Promise<{ isDone: boolean; value: T }>,
): Promise<T> {
  const deadlineAt = Date.now() + timeoutMs;
  for (;;) {
    const remainingMs = deadlineAt - Date.now();
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
  }
}
