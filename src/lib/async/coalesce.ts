/**
 * Runs `work` one run at a time. Calls during a run share the next run, which begins after it. So
 * each caller gets the result of a run that began after the call, and a thousand callers cost two
 * runs. A run gets the signal of the first caller that shares it.
 */
export function coalesce<T>(
  work: (signal?: AbortSignal) => Promise<T>,
): (signal?: AbortSignal) => Promise<T> {
  let running: Promise<unknown> | undefined;
  let next: Promise<T> | undefined;
  const start = (signal?: AbortSignal): Promise<T> => {
    const run = work(signal);
    const ended = run.then(
      () => undefined,
      () => undefined, // the callers of this run handle its error
    );
    running = ended.then(() => {
      running = undefined;
    });
    return run;
  };
  return (signal) => {
    if (running === undefined) return start(signal);
    next ??= running.then(() => {
      next = undefined;
      return start(signal);
    });
    return next;
  };
}
