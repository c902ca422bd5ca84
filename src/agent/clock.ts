/** The agent's only source of time. Tests replace it with a virtual clock. */
export interface Clock {
  /** Milliseconds of the machine's wall clock, which Docker's timestamps use, too. */
  nowMs(): number;
  /** Calls back once after `delayMs`. The returned function cancels the call. */
  after(delayMs: number, callback: () => void): () => void;
}

/** Longer timers overflow in Node and would fire immediately. */
const timerMsMax = 2 ** 31 - 1;

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  after(delayMs, callback) {
    const timer = setTimeout(callback, Math.min(Math.max(delayMs, 0), timerMsMax));
    return () => clearTimeout(timer);
  },
};

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
