import { isAborted } from "../../lib/async/abort.ts";

/** The keys are networks, and each costs one listing of its connections at least. */
const KEYS_PER_PASS_MAX = 32;
/** A failure that an operator should see. Passes follow every few seconds. */
const LASTING_FAILURES_MIN = 3;

interface Pass<Key> {
  /** @param failures the number of failures in a row before this attempt */
  work: (key: Key, failures: number) => Promise<void>;
  onFirstFailure: (key: Key, error: unknown) => void;
  signal: AbortSignal;
}

/**
 * Repeats work that may fail for each of several keys, in passes. Keys whose last attempt failed
 * come after all others, and the one that failed longest ago is the first of them. Neither group
 * delays the other indefinitely: each has half of a pass, and what the other one does not need. It
 * has at most as many keys as the last pass got.
 */
export class FairRetries<Key> {
  readonly #max: number;
  /** The failures in a row, in the order of the last one. */
  readonly #failures = new Map<Key, { count: number; error: unknown }>();

  /** @param max the number of keys in a pass */
  constructor(max = KEYS_PER_PASS_MAX) {
    this.#max = max;
  }

  /** The last error of a key that has failed three times in a row. Undefined if there is none. */
  findLastingError(): unknown {
    for (const { count, error } of this.#failures.values())
      if (count >= LASTING_FAILURES_MIN) return error;
    return undefined;
  }

  /** Does the work of one pass, one key after another. Never rejects. The caller repeats it. */
  async run(keys: readonly Key[], { work, onFirstFailure, signal }: Pass<Key>): Promise<void> {
    for (const key of this.#take(keys)) {
      const failures = this.#failures.get(key)?.count ?? 0;
      try {
        await work(key, failures);
        this.#failures.delete(key);
      } catch (error) {
        if (isAborted(signal)) return;
        this.#failures.delete(key); // it becomes the last one
        this.#failures.set(key, { count: failures + 1, error });
        if (failures === 0) onFirstFailure(key, error);
      }
    }
  }

  #take(keys: readonly Key[]): Key[] {
    const present = new Set(keys);
    for (const key of this.#failures.keys()) if (!present.has(key)) this.#failures.delete(key);
    const others = keys.filter((key) => !this.#failures.has(key));
    const share = Math.max(Math.floor(this.#max / 2), this.#max - others.length);
    const failed = [...this.#failures.keys()].slice(0, share);
    return [...others.slice(0, this.#max - failed.length), ...failed];
  }
}
