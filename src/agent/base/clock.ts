/** One moment on both clocks. */
export interface Moment {
  /** Monotonic milliseconds since an arbitrary start, for due times and durations. */
  nowMs: number;
  /** Wall clock, only for texts that people read. It may step in either direction. */
  wallMs: number;
}

/** The agent's only source of time. Tests replace it with a virtual clock. */
export interface Clock {
  /** Monotonic milliseconds since the start of the process. */
  nowMs(): number;
  /** Wall clock. Never compare it with an earlier value: it may step in either direction. */
  wallMs(): number;
  /** Calls back once after `delayMs`. The returned function cancels the call. */
  after(delayMs: number, callback: () => void): () => void;
}

export function readMoment(clock: Clock): Moment {
  return { nowMs: clock.nowMs(), wallMs: clock.wallMs() };
}

/** Resolves after `delayMs`, or as soon as `signal` is aborted. */
export function delay(clock: Clock, delayMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const end = () => {
      cancel();
      signal.removeEventListener("abort", end);
      resolve();
    };
    const cancel = clock.after(delayMs, end);
    return signal.addEventListener("abort", end, { once: true });
  });
}

/**
 * Exponential backoff from 0.5 s to 30 s, of which the caller waits between half and all. `random`
 * is in [0, 1).
 */
export function callBackoffMs(failuresInRow: number, random: number): number {
  const backoffMs = Math.min(30_000, 500 * 2 ** Math.min(failuresInRow - 1, 10));
  return backoffMs * (0.5 + random / 2);
}
