import { setTimeout as delay } from "node:timers/promises";

/** Long for busy machines: a passing test never waits for the deadline. */
export const WAIT_DEADLINE_MS = 60_000;

/**
 * Polls `probe` until it returns a value other than undefined or false, and returns that value. A
 * probe may throw. After `deadlineMs` it throws an error that names `what`, with the probe's last
 * error as cause.
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
      const last = lastError instanceof Error ? `; last error: ${lastError.message}` : "";
      throw new Error(`${what}: not within ${deadlineMs} ms${last}`, { cause: lastError });
    }
    await delay(everyMs);
  }
}
