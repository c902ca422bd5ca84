import type { Caller } from "../../contracts/api/caller.ts";
import type { TokenCache } from "../runtime/context.ts";

/**
 * How long a caller is known without being looked up again: so long, at most, another process may let a token pass that was
 * revoked or has expired. Who calls often saves a round trip of each request by it.
 */
const KNOWN_MS = 2_000;
const KNOWN_MAX = 10_000;

/**
 * People's tokens that were let in a moment ago, by the hash of their secret. Tokens that open one thing only, once or for one
 * sender, are never kept, nor is who was refused. Once this process revokes a token it knows nobody any more.
 */
export class CallerTokenCache implements TokenCache {
  readonly #now: () => number;
  readonly #known = new Map<string, { caller: Caller; untilMs: number }>();
  #forgotten = 0;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  find(secretHash: string): Caller | undefined {
    const known = this.#known.get(secretHash);
    if (known && known.untilMs > this.#now()) return known.caller;
    this.#known.delete(secretHash);
    return undefined;
  }

  /** Keeps what `lookUp` finds, unless somebody was to be forgotten meanwhile: it may have looked before that. */
  async remember(
    secretHash: string,
    lookUp: () => Promise<Caller | undefined>,
  ): Promise<Caller | undefined> {
    const forgotten = this.#forgotten;
    const untilMs = this.#now() + KNOWN_MS;
    const caller = await lookUp();
    if (!caller || caller.role === "hook" || caller.role === "enroll") return caller;
    if (this.#forgotten !== forgotten) return caller;
    if (this.#known.size >= KNOWN_MAX) this.#known.clear();
    this.#known.set(secretHash, { caller, untilMs });
    return caller;
  }

  clear(): void {
    this.#forgotten++;
    this.#known.clear();
  }
}
