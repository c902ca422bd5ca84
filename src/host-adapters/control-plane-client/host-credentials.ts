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
  #lastSave: Promise<void> = Promise.resolve();

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
   * The credentials with which to repeat a request that Berth has refused, in this order:
   *
   * - The current one, if a rotation has replaced the refused one meanwhile.
   * - The previous ones, the newest first. A restored database may know one of them.
   * - The next one. Berth uses it already if the disk has an older copy of the state.
   */
  listFallbacks(refused: string): string[] {
    const { credential, nextCredential, previousCredentials = [] } = this.#state;
    const others = [credential, ...previousCredentials];
    if (nextCredential !== undefined) others.push(nextCredential);
    return others.filter((other) => other !== refused);
  }

  /**
   * Makes a credential that Berth has accepted the current one, unless the agent no longer uses the
   * refused one. Berth refuses the current one after a restore of its database. An older API also
   * refuses that of a rotation. The others remain, so the next refusal corrects a wrong choice.
   */
  async confirmFallback(accepted: string, refused: string): Promise<void> {
    // A rotation may have replaced the refused one while the answer was awaited.
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
    await this.#save(this.#state).catch((error: unknown) => {
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

  /** Resolves when neither a rotation nor a save is in progress. */
  async settled(): Promise<void> {
    await this.#rotation;
    await this.#lastSave;
  }

  async #rotate(send: SendCredential): Promise<void> {
    const { credential, nextCredential: next = newSecret() } = this.#state;
    await this.#change({ ...this.#state, nextCredential: next });
    await send(next, credential, this.#signal);
    if (this.current !== credential) throw credentialChanged();
    const { previousCredentials = [] } = this.#state;
    await this.#change({
      credential: next,
      previousCredentials: [credential, ...previousCredentials].slice(0, PREVIOUS_CREDENTIALS_MAX),
    });
    this.#log.info({}, "the agent has a new credential");
    // Its first use, after which Berth refuses the previous one.
    await send(next, next, this.#signal);
  }

  /**
   * Saves a state, and then uses it. Rejects if the agent has fallen back to another credential
   * meanwhile. That one stays, and its save follows this one.
   */
  async #change(state: HostCredentialState): Promise<void> {
    const before = this.#state;
    await this.#save(state);
    if (this.#state !== before) throw credentialChanged();
    this.#state = state;
  }

  /** One save at a time, so a failed save leaves the state of the previous one on the disk. */
  #save(state: HostCredentialState): Promise<void> {
    const save = this.#lastSave.then(() => this.#store.saveCredentials(state));
    this.#lastSave = save.catch(() => undefined); // the caller gets the error
    return save;
  }
}

function credentialChanged(): Error {
  return new Error("the current credential has changed");
}

/** Credentials of a host without a disk. */
export function createMemoryCredentials(
  credential: string,
  { signal, log }: Pick<HostCredentialsOptions, "signal" | "log">,
): HostCredentials {
  const store = { saveCredentials: () => Promise.resolve() };
  return new HostCredentials({ stored: { credential }, store, signal, log });
}
