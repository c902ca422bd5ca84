/** The credentials of a host on its disk. */
export interface HostCredentialState {
  /** The one that the agent uses. */
  credential: string;
  /** A generated one, saved before the agent sends it. Berth may know it or not. */
  nextCredential?: string | undefined;
  /**
   * The one before the last rotation. Berth refuses it, but a restored database may know only this
   * one.
   */
  previousCredential?: string | undefined;
}

export interface HostCredentialStore {
  /** Saves durably: after it resolves, the credentials survive a power failure. */
  saveCredentials(credentials: HostCredentialState): Promise<void>;
}
