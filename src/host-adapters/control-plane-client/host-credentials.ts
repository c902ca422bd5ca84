import {
  type HostCredentialState,
  type HostCredentialStore,
  PREVIOUS_CREDENTIALS_MAX,
} from "../../agent/ports/host-credential-store.ts";
import type { Log } from "../../lib/log.ts";
import { newSecret } from "../../lib/token-hash.ts";

export interface HostCredentialsOptions {
  /** The credentials on the disk. */
  stored: HostCredentialState;
  store: HostCredentialStore;
  /** Ends a rotation in progress. A later one continues it. */
  signal: AbortSignal;
  log: Log;
}

/** Sends the next credential to Berth, with `bearer`. */
export type SendCredential = (
  credential: string,
  bearer: string,
  signal: AbortSignal,
) => Promise<void>;

/**
 * The credentials of a host. All connections of its agent share them, and read the current one for
 * each request.
 *
 * A rotation saves the next credential, sends it, saves it as the current one, and only then uses
 * it. Berth accepts both until that first use. So an agent that is killed at any step has a valid
 * credential on its disk. A rotation whose answer was lost repeats the same request.
 */
export class HostCredentials {
  readonly #store: HostCredentialStore;
  readonly #signal: AbortSignal;
  readonly #log: Log;
  #state: HostCredentialState;
  #rotation: Promise<void> | undefined;

  constructor({ stored, store, signal, log }: HostCredentialsOptions) {
    this.#state = stored;
    this.#store = store;
    this.#signal = signal;
    this.#log = log;
  }

  /** The credential for the next request. */
  get current(): string {
    return this.#state.credential;
  }

  /**
   * The other credentials of the host, for the repetition of a request that Berth has refused. The
   * first is the current one, if the request had an older one. Those that a restored database may
   * know follow, the newest first, and a next one whose first use had no answer.
   */
  listFallbacks(refused: string): string[] {
    const { credential, nextCredential, previousCredentials = [] } = this.#state;
    const others = [credential, ...previousCredentials];
    if (nextCredential !== undefined) others.push(nextCredential);
    return others.filter((other) => other !== refused);
  }

  /**
   * Confirms that Berth accepts a credential after it has refused another one. The agent then uses
   * it if it still used the refused one: a database was restored, or a rotation met an older API.
   * It retains all others, so a wrong conclusion ends with the next refusal.
   */
  async confirmFallback(accepted: string, refused: string): Promise<void> {
    // A rotation may have replaced the credential while the answer was awaited.
    if (accepted === refused || this.current !== refused) return;
    const { nextCredential, previousCredentials = [] } = this.#state;
    this.#state = {
      credential: accepted,
      nextCredential: nextCredential === accepted ? undefined : nextCredential,
      previousCredentials: [refused, ...previousCredentials]
        .filter((other) => other !== accepted)
        .slice(0, PREVIOUS_CREDENTIALS_MAX),
    };
    this.#log.warn({}, "Berth does not know the credential of this host: using another one");
    // Without the save, the next agent finds out by the same refusal.
    await this.#store.saveCredentials(this.#state).catch((error: unknown) => {
      this.#log.error({ err: error }, "cannot save the credential of this host");
    });
  }

  /**
   * Starts the rotation that an answer has requested, unless one is in progress. After a failure, a
   * later answer requests it again.
   * @param bearer the credential of the answered request; an answer to an older one is stale
   */
  startRotation(bearer: string, send: SendCredential): void {
    if (this.#rotation || bearer !== this.current) return;
    this.#rotation = this.#rotate(send)
      .catch((error: unknown) => {
        this.#log.warn({ err: error }, "cannot rotate the credential of this host");
      })
      .finally(() => {
        this.#rotation = undefined;
      });
  }

  /** Resolves when no rotation is in progress. */
  async settled(): Promise<void> {
    await this.#rotation;
  }

  async #rotate(send: SendCredential): Promise<void> {
    const { credential, nextCredential: next = newSecret(), previousCredentials } = this.#state;
    await this.#save({ ...this.#state, nextCredential: next });
    await send(next, credential, this.#signal);
    if (this.current !== credential) throw new Error("the current credential has changed");
    await this.#save({
      credential: next,
      previousCredentials: [credential, ...(previousCredentials ?? [])].slice(
        0,
        PREVIOUS_CREDENTIALS_MAX,
      ),
    });
    this.#log.info({}, "the agent has a new credential");
    // Its first use, after which Berth refuses the previous one.
    await send(next, next, this.#signal);
  }

  async #save(state: HostCredentialState): Promise<void> {
    await this.#store.saveCredentials(state);
    this.#state = state;
  }
}

/** Credentials of a host without a disk. */
export function createMemoryCredentials(
  credential: string,
  { signal, log }: Pick<HostCredentialsOptions, "signal" | "log">,
): HostCredentials {
  const store = { saveCredentials: () => Promise.resolve() };
  return new HostCredentials({ stored: { credential }, store, signal, log });
}
