/** Runs what it is given, at most `callsMax` at a time, in the order of the calls. */
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
      // The place is handed on rather than given back, so that no later call can take it.
      const next = waiting.shift();
      if (next) next();
      else running -= 1;
    }
  };
}
