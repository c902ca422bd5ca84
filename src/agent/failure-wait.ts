import type { Log } from "../lib/log.ts";
import { callBackoffMs, type Clock, delay } from "./clock.ts";
import { ControlPlaneError, CredentialRefusedError } from "./ports/control-plane.ts";

const WAIT_MS_MAX = 60_000;

/**
 * How long to wait after a sync that failed: as long as the API asks for, or longer with every failure in a row. Throws what no
 * waiting can help.
 * @param random in [0, 1)
 */
export function failureWaitMs(error: unknown, failuresInRow: number, random: number): number {
  if (error instanceof CredentialRefusedError) throw error;
  const askedMs = error instanceof ControlPlaneError ? (error.retryAfterMs ?? 0) : 0;
  return Math.min(Math.max(askedMs, callBackoffMs(failuresInRow, random)), WAIT_MS_MAX);
}

/** Waits that long before the next sync of a loop. Rejects with what no waiting can help. */
export async function standFailure(
  { clock, log, random, loop }: { clock: Clock; log: Log; random: () => number; loop: string },
  error: unknown,
  failuresInRow: number,
  signal: AbortSignal,
): Promise<void> {
  const waitMs = failureWaitMs(error, failuresInRow, random());
  log.warn({ err: error, loop, failuresInRow, waitMs: Math.round(waitMs) }, "sync failed");
  await delay(clock, waitMs, signal);
}
