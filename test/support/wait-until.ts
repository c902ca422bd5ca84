import { setTimeout as delay } from "node:timers/promises";

/** Long, as it costs a test that passes nothing, and a busy machine takes several times as long as an idle one. */
export const WAIT_DEADLINE_MS = 60_000;

/**
 * Polls `probe` until it gives something other than undefined or false, and returns that. Throws after
 * `deadlineMs`, naming `what`, with the last error of the probe as cause: a probe may throw until then.
 */
export async function waitUntil<T>(
  what: string,
  probe: () => Promise<T | undefined | false> | T | undefined | false,
  { deadlineMs = WAIT_DEADLINE_MS, everyMs = 20 }: { deadlineMs?: number; everyMs?: number } = {},
): Promise<T> {
  const startedAtMs = performance.now();
  let lastError: unknown;
  for (;;) {
    try {
      const value = await probe();
      if (value !== undefined && value !== false) return value;
      lastError = undefined;
    } catch (error) {
      lastError = error;
    }
    if (performance.now() - startedAtMs > deadlineMs) {
      throw new Error(`${what}: not within ${deadlineMs} ms`, { cause: lastError });
    }
    await delay(everyMs);
  }
}
