/**
 * Runs `work` one run at a time. Calls during a run share the next run, which begins after it. So
 * each caller gets the result of a run that began after the call, and a thousand callers cost two
 * runs.
 */
export function coalesce<T>(work: () => Promise<T>): () => Promise<T> {
  let running: Promise<unknown> | undefined;
  let next: Promise<T> | undefined;
  const start = (): Promise<T> => {
    const run = work();
    const ended = run.then(
      () => undefined,
      () => undefined, // the callers of this run handle its error
    );
    running = ended.then(() => {
      running = undefined;
    });
    return run;
  };
  return () => {
    if (running === undefined) return start();
    next ??= running.then(() => {
      next = undefined;
      return start();
    });
    return next;
  };
}
