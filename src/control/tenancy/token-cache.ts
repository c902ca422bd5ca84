import type { Caller } from "../../contracts/api/caller.ts";
import type { TokenCache } from "../runtime/context.ts";

/**
 * The time for which a caller is cached. For at most this time, another process may accept a token
 * that is revoked or expired. A frequent caller saves one query per request.
 */
const CACHED_MS = 2_000;
const CALLERS_CACHED_MAX = 10_000;
const REJECTED_CACHED_MAX = 10_000;

/**
 * Caches callers by the hash of their secret, except those of hook and enroll tokens. It also
 * caches rejected secrets, so that a sender with a wrong token costs one query in two seconds. A
 * revocation in this process clears the cache.
 */
export class CallerTokenCache implements TokenCache {
  readonly #now: () => number;
  readonly #cached = new Map<string, { caller: Caller; untilMs: number }>();
  readonly #rejectedUntilMs = new Map<string, number>();
  #clearings = 0;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  find(secretHash: string): Caller | undefined {
    const cached = this.#cached.get(secretHash);
    if (cached && cached.untilMs > this.#now()) return cached.caller;
    this.#cached.delete(secretHash);
    return undefined;
  }

  isRejected(secretHash: string): boolean {
    return (this.#rejectedUntilMs.get(secretHash) ?? 0) > this.#now();
  }

  /** Caches the result of `lookUp`, unless `clear` ran meanwhile: the result may be older. */
  async remember(
    secretHash: string,
    lookUp: () => Promise<Caller | undefined>,
  ): Promise<Caller | undefined> {
    const clearings = this.#clearings;
    const untilMs = this.#now() + CACHED_MS;
    const caller = await lookUp();
    if (this.#clearings !== clearings) return caller;
    if (!caller) {
      if (this.#rejectedUntilMs.size >= REJECTED_CACHED_MAX) this.#rejectedUntilMs.clear();
      this.#rejectedUntilMs.set(secretHash, untilMs);
      return undefined;
    }
    if (caller.role === "hook" || caller.role === "enroll") return caller;
    if (this.#cached.size >= CALLERS_CACHED_MAX) this.#cached.clear();
    this.#cached.set(secretHash, { caller, untilMs });
    return caller;
  }

  clear(): void {
    this.#clearings++;
    this.#cached.clear();
    this.#rejectedUntilMs.clear();
  }
}
