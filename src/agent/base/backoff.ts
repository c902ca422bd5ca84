const BACKOFF_MS_MIN = 1_000;
const BACKOFF_MS_MAX = 60_000;

/** Exponential backoff from 1 s to 60 s. `inRow` counts failures from 1. */
export function backoffMs(inRow: number): number {
  return Math.min(BACKOFF_MS_MAX, BACKOFF_MS_MIN * 2 ** Math.min(Math.max(inRow - 1, 0), 10));
}

const OBSERVE_RETRY_MS_MIN = 500;
const OBSERVE_RETRY_MS_MAX = 30_000;

/** Exponential backoff from 0.5 s to 30 s after failed observations. */
export function observeRetryMs(inRow: number): number {
  return Math.min(OBSERVE_RETRY_MS_MAX, OBSERVE_RETRY_MS_MIN * 2 ** Math.min(inRow - 1, 10));
}
