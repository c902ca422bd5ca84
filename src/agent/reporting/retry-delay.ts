import type { Log } from "../../lib/log.ts";
import { callBackoff, computeBackoffMs } from "../base/backoff.ts";
import { type Clock, sleep } from "../base/clock.ts";
import { ControlPlaneError, NotAdmittedError } from "../ports/control-plane.ts";

const WAIT_MS_MAX = 60_000;

/**
 * The delay before the next sync after a failure: the longer of the API's request and the
 * exponential backoff. Throws NotAdmittedError, because another agent manages the host.
 *
 * @param random in [0, 1)
 */
export function retryDelayMs(error: unknown, failuresInRow: number, random: number): number {
  if (error instanceof NotAdmittedError) throw error;
  const askedMs = error instanceof ControlPlaneError ? (error.retryAfterMs ?? 0) : 0;
  return Math.min(
    Math.max(askedMs, computeBackoffMs(callBackoff, failuresInRow, random)),
    WAIT_MS_MAX,
  );
}

/** Logs a failed sync and waits before its retry, at least for `pauseMs` if that is longer. */
export async function waitBeforeRetry(
  {
    clock,
    log,
    random,
    loop,
    pauseMs,
  }: {
    clock: Clock;
    log: Log;
    random: () => number;
    loop: string;
    pauseMs: (random: number) => number;
  },
  error: unknown,
  failuresInRow: number,
  signal: AbortSignal,
): Promise<void> {
  const waitMs = Math.max(retryDelayMs(error, failuresInRow, random()), pauseMs(random()));
  log.warn({ err: error, loop, failuresInRow, waitMs: Math.round(waitMs) }, "sync failed");
  await sleep(clock, waitMs, signal);
}
