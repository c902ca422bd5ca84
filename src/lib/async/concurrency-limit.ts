/** Runs calls in their order, at most `callsMax` at a time. */
export type ConcurrencyLimit = <T>(call: () => Promise<T>) => Promise<T>;

export function createConcurrencyLimit(callsMax: number): ConcurrencyLimit {
  let running = 0;
  const waiting: (() => void)[] = [];
  return async (call) => {
    if (running >= callsMax) await new Promise<void>((resolve) => waiting.push(resolve));
    else running += 1;
    try {
      return await call();
    } finally {
      // The slot passes to the next waiter directly, so that no new call can take it first.
      const next = waiting.shift();
      if (next) next();
      else running -= 1;
    }
  };
}
