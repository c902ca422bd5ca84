/**
 * One run of `work` at a time. Calls that come while it runs share one next run, which begins when this one has ended:
 * so each caller gets the result of a run that began after it called, and a thousand callers cost two runs.
 */
export function coalesce<T>(work: () => Promise<T>): () => Promise<T> {
  let running: Promise<unknown> | undefined;
  let next: Promise<T> | undefined;
  const start = (): Promise<T> => {
    const run = work();
    const ended = run.then(
      () => undefined,
      () => undefined, // the callers of this run have its error
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
