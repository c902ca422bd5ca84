import { type CallAfter, callAfter } from "./call-after.ts";

/** Bounds of a FairLimit. */
export interface FairLimitOptions {
  /** Calls that may run at a time, without slow ones. */
  callsMax: number;
  /** A call that has run for this long only waits, so it gives its slot to the next one. */
  slowMs: number;
  /** At most this many slow calls have no slot. Further slow calls retain theirs. */
  slowMax: number;
  /** Calls of one key that may run at a time, including slow ones. */
  callsPerKeyMax: number;
  /** Calls back once after `delayMs`, and returns a function that cancels it. */
  after?: CallAfter;
}

/** Runs a call of this key as soon as the limit allows it. */
export type FairLimit = <T>(key: string, call: () => Promise<T>) => Promise<T>;

/**
 * Runs calls concurrently within bounds. Waiting keys take turns, and calls of one key run in their
 * order. So a key with many calls does not delay the calls of other keys.
 *
 * Slow calls give their slots back, so calls that hang do not block the others. They still count
 * for their own key. The queue has no bound of its own: each caller waits for its call.
 */
export function createFairLimit(options: FairLimitOptions): FairLimit {
  const { callsMax, slowMs, slowMax, callsPerKeyMax, after = callAfter } = options;
  const running = new Map<string, number>();
  /** Waiting calls by key. The keys are in the order of their turns. */
  const waiting = new Map<string, (() => void)[]>();
  let runningCount = 0;
  let slowCount = 0;

  const hasSlot = () => runningCount - Math.min(slowCount, slowMax) < callsMax;
  const mayRun = (key: string) => hasSlot() && (running.get(key) ?? 0) < callsPerKeyMax;
  const enter = (key: string) => {
    runningCount += 1;
    running.set(key, (running.get(key) ?? 0) + 1);
  };
  const leave = (key: string) => {
    runningCount -= 1;
    const left = (running.get(key) ?? 1) - 1;
    if (left === 0) running.delete(key);
    else running.set(key, left);
  };
  const admitNext = (): boolean => {
    for (const [key, calls] of waiting) {
      if (!mayRun(key)) continue;
      const admit = calls.shift();
      waiting.delete(key);
      // The next turn of this key comes after all other keys.
      if (calls.length > 0) waiting.set(key, calls);
      enter(key);
      admit?.();
      return true;
    }
    return false;
  };
  const admitWaiting = () => {
    while (hasSlot() && admitNext());
  };

  return async (key, call) => {
    if (mayRun(key) && !waiting.has(key)) enter(key);
    else {
      await new Promise<void>((resolve) => {
        const calls = waiting.get(key);
        if (calls) calls.push(resolve);
        else waiting.set(key, [resolve]);
      });
    }
    const state = { isSlow: false };
    const cancelTimer = after(slowMs, () => {
      state.isSlow = true;
      slowCount += 1;
      admitWaiting();
    });
    try {
      return await call();
    } finally {
      cancelTimer();
      if (state.isSlow) slowCount -= 1;
      leave(key);
      admitWaiting();
    }
  };
}
