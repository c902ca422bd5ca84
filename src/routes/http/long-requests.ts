import { AppError } from "../../contracts/common/app-error.ts";
import { KeyedLimit } from "../../lib/async/keyed-limit.ts";
import { type ApiContext, getCaller } from "./api-env.ts";

/**
 * Streams and waits of one token in this process. One signal can wake all of them, so the limit is
 * below the number of reads of one tenant that the connection queue accepts.
 */
const LONG_REQUESTS_PER_CALLER_MAX = 50;
const RETRY_AFTER_MS = 1_000;

/** Limits the streams and waits of each caller, so that one caller cannot exhaust the process. */
export class LongRequests {
  readonly #limit = new KeyedLimit(LONG_REQUESTS_PER_CALLER_MAX);

  /**
   * Admits a long request. Call the returned function when it ends; it may be called again.
   * Throws rate-limited.
   */
  enter(c: ApiContext): () => void {
    const release = this.#limit.tryEnter(getCaller(c).tokenId);
    if (release) return release;
    throw new AppError("rate-limited", {
      detail: `A token may have ${LONG_REQUESTS_PER_CALLER_MAX} streams and waits at the same time. End one, or retry the request later.`,
      retryAfterMs: RETRY_AFTER_MS,
    });
  }
}
