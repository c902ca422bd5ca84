/**
 * Takes turns among keys whose work may fail. Keys whose last attempt failed come after all others,
 * and the one that failed longest ago is the first of them. So none of them delays the others
 * indefinitely. It has at most as many keys as the last `take` got.
 */
export class RetryOrder<Key> {
  /** The number of failures in a row, in the order of the last failure. */
  readonly #failures = new Map<Key, number>();

  /** The keys of the next pass, at most `max`. */
  take(keys: readonly Key[], max: number): Key[] {
    const present = new Set(keys);
    for (const key of this.#failures.keys()) if (!present.has(key)) this.#failures.delete(key);
    const others = keys.filter((key) => !this.#failures.has(key));
    return [...others, ...this.#failures.keys()].slice(0, max);
  }

  succeed(key: Key): void {
    this.#failures.delete(key);
  }

  /** Returns the number of failures in a row. */
  fail(key: Key): number {
    const failures = (this.#failures.get(key) ?? 0) + 1;
    this.#failures.delete(key);
    this.#failures.set(key, failures);
    return failures;
  }
}
