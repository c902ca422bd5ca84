/**
 * Runs `work` one run at a time. Calls during a run share the next run, which begins after it. So
 * each caller gets the result of a run that began after the call, and a thousand callers cost two
 * runs.
 *
 * A run aborts once the signals of all its callers have aborted. A call without a signal never
 * aborts. So no caller ends the run of another one, and each waits until the run has ended.
 */
export function coalesce<T>(
  work: (signal?: AbortSignal) => Promise<T>,
): (signal?: AbortSignal) => Promise<T> {
  let running: Promise<unknown> | undefined;
  let next: { signals: Set<AbortSignal | undefined>; result: Promise<T> } | undefined;
  const start = (signals: ReadonlySet<AbortSignal | undefined>): Promise<T> => {
    const { signal, unlisten } = joinSignals(signals);
    const run = work(signal);
    const ended = run.then(
      () => undefined,
      () => undefined, // the callers of this run handle its error
    );
    running = ended.then(() => {
      unlisten();
      running = undefined;
    });
    return run;
  };
  return (signal) => {
    if (running === undefined) return start(new Set([signal]));
    if (next === undefined) {
      const signals = new Set<AbortSignal | undefined>();
      const result = running.then(() => {
        next = undefined;
        return start(signals);
      });
      next = { signals, result };
    }
    next.signals.add(signal);
    return next.result;
  };
}

/** Returns a signal that aborts once all of these have aborted. */
function joinSignals(signals: ReadonlySet<AbortSignal | undefined>): {
  signal: AbortSignal | undefined;
  unlisten: () => void;
} {
  const present = [...signals].filter((signal) => signal !== undefined);
  const neverAborts = present.length < signals.size;
  if (neverAborts || present.length === 1)
    return { signal: neverAborts ? undefined : present[0], unlisten: () => undefined };
  const joined = new AbortController();
  const check = (): void => {
    if (present.every(({ aborted }) => aborted)) joined.abort();
  };
  for (const signal of present) signal.addEventListener("abort", check, { once: true });
  check();
  const unlisten = (): void => {
    for (const signal of present) signal.removeEventListener("abort", check);
  };
  return { signal: joined.signal, unlisten };
}
