/** A query whose last successful answer is cached. Concurrent callers share one query. */
export interface RememberedQuery<T> {
  get: () => Promise<T>;
  /** Queries again immediately. */
  renew: () => Promise<T>;
  /** Queries again at the next `get`. */
  forget: () => void;
}

/** A failure is not cached: the next call queries again. */
export function rememberSuccess<T>(query: () => Promise<T>): RememberedQuery<T> {
  let known: Promise<T> | undefined;
  const renew = () => {
    const asked = query();
    known = asked;
    asked.catch(() => {
      if (known === asked) known = undefined;
    });
    return asked;
  };
  const forget = () => {
    known = undefined;
  };
  return { get: () => known ?? renew(), renew, forget };
}
