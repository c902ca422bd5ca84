/** The previous credentials that an agent stores: those of the newest rotations. */
export const PREVIOUS_CREDENTIALS_MAX = 5;

/** The credentials of a host on its disk. */
export interface HostCredentialState {
  /** The one that the agent uses. */
  credential: string;
  /** A generated one, saved before the agent sends it. Berth may know it or not. */
  nextCredential?: string | undefined;
  /**
   * Those before the last rotations, the newest first: at most PREVIOUS_CREDENTIALS_MAX. Berth
   * refuses them, but a restored database may know only one of them.
   */
  previousCredentials?: readonly string[] | undefined;
}

export interface HostCredentialStore {
  /** Saves durably: after it resolves, the credentials survive a power failure. */
  saveCredentials(credentials: HostCredentialState): Promise<void>;
}
