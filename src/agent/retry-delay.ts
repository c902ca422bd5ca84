import type { Log } from "../lib/log.ts";
import { callBackoffMs, type Clock, delay } from "./clock.ts";
import { ControlPlaneError, CredentialRefusedError } from "./ports/control-plane.ts";

const WAIT_MS_MAX = 60_000;

/**
 * The delay before the next sync after a failure: the longer of the API's request and the
 * exponential backoff. Throws an error that no retry can cure.
 *
 * @param random in [0, 1)
 */
export function retryDelayMs(error: unknown, failuresInRow: number, random: number): number {
  if (error instanceof CredentialRefusedError) throw error;
  const askedMs = error instanceof ControlPlaneError ? (error.retryAfterMs ?? 0) : 0;
  return Math.min(Math.max(askedMs, callBackoffMs(failuresInRow, random)), WAIT_MS_MAX);
}

/** Logs a failed sync and waits before its retry. Rejects with an error that no retry can cure. */
export async function waitBeforeRetry(
  { clock, log, random, loop }: { clock: Clock; log: Log; random: () => number; loop: string },
  error: unknown,
  failuresInRow: number,
  signal: AbortSignal,
): Promise<void> {
  const waitMs = retryDelayMs(error, failuresInRow, random());
  log.warn({ err: error, loop, failuresInRow, waitMs: Math.round(waitMs) }, "sync failed");
  await delay(clock, waitMs, signal);
}
