/** Wait after the first failure, and the longest wait. */
export interface BackoffBounds {
  minMs: number;
  maxMs: number;
}

/** After a failed step of a set. */
export const stepBackoff: BackoffBounds = { minMs: 2_000, maxMs: 60_000 };
/** After an exit of a container, repeated preparations, or a resize without success. */
export const repeatBackoff: BackoffBounds = { minMs: 1_000, maxMs: 60_000 };
/** After a failed call to the control plane, or a failed observation of a set. */
export const callBackoff: BackoffBounds = { minMs: 500, maxMs: 30_000 };

/** More doublings would exceed each maximum. */
const DOUBLINGS_MAX = 20;

/**
 * Exponential backoff with equal jitter: with `random` in [0, 1), between half and all of the wait.
 * So the retries of many sets or hosts do not coincide. Without `random`, it is all of the wait.
 * `failuresInRow` counts from 1.
 */
export function computeBackoffMs(
  { minMs, maxMs }: BackoffBounds,
  failuresInRow: number,
  random?: number,
): number {
  const doublings = Math.min(Math.max(failuresInRow - 1, 0), DOUBLINGS_MAX);
  const wholeMs = Math.min(maxMs, minMs * 2 ** doublings);
  return random === undefined ? wholeMs : Math.round(wholeMs * (0.5 + random / 2));
}
