import { isAborted } from "../../lib/async/abort.ts";

/** The keys are networks, and each costs one listing of its connections at least. */
const KEYS_PER_PASS_MAX = 32;

interface Pass<Key> {
  /** @param failures the number of failures in a row before this attempt */
  work: (key: Key, failures: number) => Promise<void>;
  onFirstFailure: (key: Key, error: unknown) => void;
  signal: AbortSignal;
}

/**
 * Repeats work that may fail for each of several keys, in passes. Keys whose last attempt failed
 * come after all others, and the one that failed longest ago is the first of them. So none of them
 * delays the others indefinitely. It has at most as many keys as the last pass got.
 */
export class FairRetries<Key> {
  readonly #max: number;
  /** The number of failures in a row, in the order of the last failure. */
  readonly #failures = new Map<Key, number>();

  /** @param max the number of keys in a pass */
  constructor(max = KEYS_PER_PASS_MAX) {
    this.#max = max;
  }

  /** Does the work of one pass, one key after another. Never rejects. The caller repeats it. */
  async run(keys: readonly Key[], { work, onFirstFailure, signal }: Pass<Key>): Promise<void> {
    for (const key of this.#take(keys)) {
      const failures = this.#failures.get(key) ?? 0;
      try {
        await work(key, failures);
        this.#failures.delete(key);
      } catch (error) {
        if (isAborted(signal)) return;
        this.#failures.delete(key); // it becomes the last one
        this.#failures.set(key, failures + 1);
        if (failures === 0) onFirstFailure(key, error);
      }
    }
  }

  #take(keys: readonly Key[]): Key[] {
    const present = new Set(keys);
    for (const key of this.#failures.keys()) if (!present.has(key)) this.#failures.delete(key);
    const others = keys.filter((key) => !this.#failures.has(key));
    return [...others, ...this.#failures.keys()].slice(0, this.#max);
  }
}
